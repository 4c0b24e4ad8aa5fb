/** From text to terms: the analyzer `grams-1` (crates/lexical/src/analyzer.rs). */

import { isBlank, normalize } from "./normalize.js";

/** Longest term in bytes of UTF-8. */
const MAX_WORD_BYTES = 255;

type Script = "han" | "hiragana" | "katakana" | "latin" | "digit" | "blank" | "other";

const SCRIPTS: [Script, RegExp][] = [
  ["han", /^[\u4e00-\u9fff々〆〇\u3400-\u4dbf\uf900-\ufaff\u{20000}-\u{3ffff}]$/u],
  ["hiragana", /^[ぁ-ゖゝゞ]$/],
  ["katakana", /^[ァ-ヺー-ヾㇰ-ㇿ]$/],
  ["latin", /^[a-zA-ZÀ-ÖØ-öø-ɏḀ-ỿ]$/],
  ["digit", /^[0-9]$/],
];

const script = (c: string): Script => SCRIPTS.find(([, pattern]) => pattern.test(c))?.[0] ?? (isBlank(c) ? "blank" : "other");

interface Segment {
  start: number;
  end: number;
  script: Script;
}

/** Runs of one script that hold terms, in code units of a normalised text. */
function* segments(text: string): Generator<Segment> {
  let open: Segment | undefined;
  let at = 0;
  for (const c of text) {
    const found = script(c);
    const end = at + c.length;
    if (open && (found === open.script || (open.script === "hiragana" && c === "ー"))) open.end = end;
    else {
      if (open) yield open;
      open = found === "blank" || found === "other" ? undefined : { start: at, end, script: found };
    }
    at = end;
  }
  if (open) yield open;
}

/** Unbroken stretches of kanji, kana, letters and digits in a normalised text. */
export function runs(text: string): { start: number; end: number }[] {
  const out: { start: number; end: number }[] = [];
  for (const { start, end } of segments(text)) {
    const last = out.at(-1);
    if (last && last.end === start) last.end = end;
    else out.push({ start, end });
  }
  return out;
}

/** The term of a long word: cut to so many bytes at a character. */
function cutWord(word: string): string {
  let bytes = 0;
  let out = "";
  for (const c of word) {
    const code = c.codePointAt(0) as number;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (bytes > MAX_WORD_BYTES) break;
    out += c;
  }
  return out;
}

/** Every term of `text`, repetitions included, in order. */
export function termsOf(text: string): string[] {
  const normalized = normalize(text).text;
  const out: string[] = [];
  let last = "";
  let lastIsWord = false;
  let lastIsSingle = false;
  let nGrams = 0;
  let runEnd = 0;
  const gram = (c: string) => {
    if (last === "") return;
    out.push(last + c);
    nGrams += 1;
  };
  const finish = () => {
    if (nGrams === 0 && !lastIsWord && !lastIsSingle && last !== "") out.push(last);
    last = "";
    lastIsWord = lastIsSingle = false;
    nGrams = 0;
  };
  for (const { start, end, script } of segments(normalized)) {
    if (start !== runEnd) finish();
    runEnd = end;
    const chars = [...normalized.slice(start, end)];
    if (script === "latin" || script === "digit") {
      if (!lastIsWord) gram(chars[0] as string);
      out.push(cutWord(normalized.slice(start, end)));
      last = chars.at(-1) as string;
      lastIsWord = true;
      lastIsSingle = false;
      continue;
    }
    // Runs go on across kanji and kana: 読み込み is one run.
    for (const c of chars) {
      gram(c);
      lastIsSingle = script === "han";
      if (lastIsSingle) out.push(c);
      last = c;
      lastIsWord = false;
    }
  }
  finish();
  return out;
}

/** Order by code points, which is that of the bytes of UTF-8. */
export function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    // Halves of pairs stand for code points above all others.
    const high = (unit: number) => unit >= 0xd800 && unit < 0xe000;
    return high(x) === high(y) ? x - y : high(x) ? 1 : -1;
  }
  return a.length - b.length;
}
