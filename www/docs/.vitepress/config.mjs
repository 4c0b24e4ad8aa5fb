// The project's documentation, read from /docs, with Shirube as its search.
import { defineConfig } from "vitepress";
import { withShirube } from "shirube/vitepress";

const page = (text, name) => ({ text, link: `/${name}` });

export default withShirube(
  defineConfig({
    lang: "en",
    title: "Shirube 標",
    description: "Japanese search by meaning that runs wholly in the reader's browser",
    // Where the demo puts it; another place is named by DOCS_BASE.
    base: process.env.DOCS_BASE ?? "/docs/",
    cleanUrls: false,
    head: [["link", { rel: "icon", href: "data:," }]],
    // Links to folders of the repository.
    ignoreDeadLinks: true,
    markdown: { html: false },
    themeConfig: {
      nav: [{ text: "Demo", link: "../", target: "_self" }],
      outline: [2, 3],
      sidebar: [
        { text: "Use", items: [page("Start", "index"), page("A site", "site"), page("Words", "words"), page("Search elements", "ui"), page("npm package", "package")] },
        { text: "Understand", items: [page("Design", "design"), page("File formats", "format"), page("Tokenizer", "tokenizer"), page("Segmentation", "segmentation"), page("GPU", "gpu"), page("Benchmarks", "BENCHMARKS")] },
        { text: "Models", items: [page("Training", "training"), page("Default model", "model"), page("Checkpoints", "checkpoints"), page("JaColBERT", "jacolbert")] },
      ],
    },
  }),
);
