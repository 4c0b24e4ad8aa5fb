// The button in Docusaurus's bar. While the site is only served by its developer there is no index yet, and no button.
import useBaseUrl from "@docusaurus/useBaseUrl";
import { createElement, useEffect } from "react";

export default function SearchBar() {
  const bundle = useBaseUrl("/shirube/");
  const built = process.env.NODE_ENV === "production";
  useEffect(() => {
    if (built) import(/* webpackIgnore: true */ `${bundle}ui.js`);
  }, [built, bundle]);
  return built ? createElement("shirube-trigger", { bundle }) : null;
}
