// The compact dictionary of unidic-lite in target/dictionary, for tests and benches: installs the Python package, compiles it with
// `shirube dictionary`, and removes the package again (260 MB). UNIDIC_LITE names a `dicdir` that is installed already.
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ask, filesUnder, once, root, run, say } from "./lib.mjs";

export const PACKAGE = "unidic-lite==1.0.8";
const folder = join(root, "target", "dictionary");

/** The `dicdir` of a Python environment that has the package. */
export function dicdirOf(python) {
  return ask(python, ["-c", "import unidic_lite; print(unidic_lite.DICDIR)"]);
}

function install() {
  const venv = join(folder, "venv");
  const python = join(venv, "bin", "python");
  if (ask("python3", ["-m", "venv", "--clear", venv]) === undefined) throw new Error("Python with the module venv is not there");
  if (ask(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]) === undefined) throw new Error(`pip does not install ${PACKAGE} here`);
  return dicdirOf(python);
}

/** Makes the dictionary where it is missing or the compiler has changed. Answers whether it is there, having said why not. */
export async function ensureDictionary() {
  mkdirSync(folder, { recursive: true });
  try {
    await once("dictionary", filesUnder("crates/segment/src"), ["target/dictionary/dictionary-0.bin"], () => {
      say(`compiling the dictionary of ${PACKAGE} (under a minute)`);
      const dicdir = process.env.UNIDIC_LITE ?? install();
      for (const name of readdirSync(folder)) if (name.startsWith("dictionary-")) rmSync(join(folder, name));
      run("cargo", ["run", "--quiet", "-p", "shirube-cli", "--", "dictionary", dicdir, folder]);
    });
    return true;
  } catch (error) {
    if (process.env.REQUIRE_DICTIONARY) throw error;
    say(`no dictionary: ${error.message}; the tests that need all of unidic-lite will skip`);
    return existsSync(join(folder, "dictionary-0.bin"));
  } finally {
    rmSync(join(folder, "venv"), { recursive: true, force: true });
  }
}
