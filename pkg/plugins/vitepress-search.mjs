// The button in VitePress's bar. While the site is only served by its developer there is no index yet, and no button.
import { withBase } from "vitepress";
import { h, onMounted } from "vue";

export default {
  name: "ShirubeSearch",
  setup() {
    if (import.meta.env.DEV) return () => h("div");
    const bundle = withBase("/shirube/");
    onMounted(() => import(/* @vite-ignore */ `${bundle}ui.js`));
    return () => h("div", { class: "VPNavBarSearch", style: "display: flex; flex-grow: 1; align-items: center; padding-inline-start: 24px" }, [h("shirube-trigger", { bundle })]);
  },
};
