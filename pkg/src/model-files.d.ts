declare module "virtual:model-files" {
  /**
   * The URLs of the package's model by path, one literal `new URL(…, import.meta.url)` each: the form that bundlers follow. The build
   * makes this module from `pkg/model/manifest.json`.
   */
  export default function modelFiles(): { "manifest.json": string; [path: string]: string };
}
