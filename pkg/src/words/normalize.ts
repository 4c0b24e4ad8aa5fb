/**
 * The normaliser `shirube-1` (crates/text/src/rules.rs and normalize.rs), on the browser's own Unicode tables.
 *
 * Decomposition and composition come from `String.prototype.normalize`, asked one character or pair at a time, so that every character keeps its place in
 * the text. What is decided there never changes for an assigned character (UAX #15, stability); a test compares every code point and many
 * sequences with the Rust normaliser.
 */

import { MODERN_KANJI } from "./kanji.js";

/** A normalised text and, for each of its characters, the UTF-16 code units of the text that it comes from. */
export interface Normalized {
  text: string;
  chars: string[];
  starts: number[];
  ends: number[];
}

interface Tagged {
  c: string;
  start: number;
  end: number;
}

/** Characters that rule 1 removes. */
const INVISIBLE =
  /^[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]$/u;
const BLANK = /^[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$/;
/** Characters that NFKC leaves alone, that no decomposition contains in another form and that open a new segment. */
const INERT = /^[ -~ぁ-ゖァ-ヺ、。「-』ー々\u4e00-\u9fff゛゜]$/;
const DASH = /^[\u2010-\u2015\u2212]$/;
const SHORT_DASH = /^[\u2010\u2011\u2212]$/;
const HYPHEN = /^[\u2010-\u2013\u2212]$/;
const WAVE_DASH = /^[\u301c\u223c\u223e\u3030]$/;
const HIRAGANA = /^[ぁ-ゖ]$/;
const KATAKANA = /^[ァ-ヺ]$/;

export const isBlank = (c: string): boolean => BLANK.test(c);

const isOne = (text: string): boolean => text.length === 1 || (text.length === 2 && (text.codePointAt(0) as number) > 0xffff);
const join = (a: Tagged, b: Tagged, c: string): Tagged => ({ c, start: Math.min(a.start, b.start), end: Math.max(a.end, b.end) });

/** The iota below has the highest combining class there is, and moves behind any other mark. */
const LAST_MARK = "\u0345";

/** Whether the combining class of a decomposed character is above 0. */
const isMark = (c: string): boolean => c >= "\u0300" && (c === LAST_MARK || (LAST_MARK + c).normalize("NFD") !== LAST_MARK + c);

/** Whether two marks in canonical order have the same class: else they would change places in this order. */
const sameClass = (a: string, b: string): boolean => a === b || (b + a).normalize("NFD") === b + a;

/** The character that two compose to. */
function compose(a: string, b: string): string | undefined {
  const composed = (a + b).normalize("NFC");
  return isOne(composed) ? composed : undefined;
}

function mapLetter(c: string): string {
  if (WAVE_DASH.test(c)) return "~";
  const lower = c.toLowerCase();
  return lower !== c && isOne(lower) ? lower : (MODERN_KANJI.get(c) ?? c);
}

/** Rules 1 and 2: composed characters with their source. */
function normalForm(text: string): Tagged[] {
  const out: Tagged[] = [];
  let marks: Tagged[] = [];
  let starter: Tagged | undefined;
  const flush = () => {
    const typed = marks.map(({ c }) => c).join("");
    const ordered = typed.normalize("NFD");
    if (ordered !== typed) {
      // Reordered marks share one range: each alone could point backwards.
      const all = marks.reduce((a, b) => join(a, b, ""));
      marks = [...ordered].map((c) => ({ ...all, c }));
    }
    if (starter) {
      let base: Tagged = starter;
      // A mark that stayed blocks others of its class.
      let last: string | undefined;
      marks = marks.filter((mark) => {
        const c = last !== undefined && sameClass(last, mark.c) ? undefined : compose(base.c, mark.c);
        if (c === undefined) {
          last = mark.c;
          return true;
        }
        base = join(base, mark, c);
        return false;
      });
      out.push(base);
    }
    out.push(...marks);
    marks = [];
    starter = undefined;
  };
  for (let start = 0, end = 0; start < text.length; start = end) {
    const c = String.fromCodePoint(text.codePointAt(start) as number);
    end = start + c.length;
    if (INERT.test(c)) {
      flush();
      starter = { c: c >= "A" && c <= "Z" ? c.toLowerCase() : (MODERN_KANJI.get(c) ?? c), start, end };
      continue;
    }
    if (INVISIBLE.test(c)) continue;
    for (const part of c.normalize("NFKD")) {
      const next = { c: mapLetter(part), start, end };
      if (isMark(next.c)) {
        marks.push(next);
        continue;
      }
      // A starter may still compose with the one before (Hangul, some Indic vowels), also over marks that left nothing between.
      let before: Tagged | undefined = marks.length === 0 ? starter : undefined;
      if (!before) {
        const at = out.length;
        flush();
        if (out.length === at + 1 && !isMark((out[at] as Tagged).c)) before = out.pop();
      }
      const composed = before && compose(before.c, next.c);
      if (before && composed === undefined) out.push(before);
      starter = before && composed !== undefined ? join(before, next, composed) : next;
    }
  }
  flush();
  return out;
}

const shift = (c: string, by: number): string => String.fromCodePoint((c.codePointAt(0) as number) + by);
const hiraganaOf = (c: string): string => (KATAKANA.test(c) ? shift(c, -0x60) : c);

function unvoiced(c: string): string {
  const hiragana = hiraganaOf(c);
  return shift(c, "がぎぐげござじずぜぞだぢづでどばびぶべぼ".includes(hiragana) ? -1 : "ぱぴぷぺぽ".includes(hiragana) ? -2 : 0);
}

const withDakuten = (c: string): string => shift(c, "かきくけこさしすせそたちつてとはひふへほ".includes(hiraganaOf(c)) ? 1 : 0);

/** The kana that an iteration mark stands for after `previous`. */
function repeatedKana(previous: string, mark: string): string | undefined {
  const kind = "ゝゞヽヾ".indexOf(mark);
  if (kind < 0 || !(kind < 2 ? HIRAGANA : KATAKANA).test(previous)) return undefined;
  const plain = unvoiced(previous);
  return kind % 2 === 1 ? withDakuten(plain) : plain;
}

/** Rules 3 to 6, in one pass. */
function applyRuns(chars: Tagged[]): Tagged[] {
  const out: Tagged[] = [];
  const isDash = (c: string) => c === "-" || DASH.test(c);
  chars.forEach((tagged, i) => {
    const { c } = tagged;
    const next = chars[i + 1]?.c ?? "\0";
    const before = chars[i - 1]?.c ?? "\0";
    const last = out.at(-1);
    const previous = last?.c ?? "\0";
    const extend = (what: string) => {
      if (last && last.c === what) out[out.length - 1] = join(last, tagged, what);
      else if (last || what !== " ") out.push({ ...tagged, c: what });
    };
    if (isBlank(c)) return extend(" ");
    const loneDash = DASH.test(c) && !isDash(next) && !isDash(before);
    if (c === "ー" || (loneDash && (KATAKANA.test(previous) || previous === "ー" || (SHORT_DASH.test(c) && HIRAGANA.test(previous))))) return extend("ー");
    let letter = HYPHEN.test(c) ? "-" : c;
    // A mark under a loose dakuten would compose differently the second time: leave it.
    if (next !== "\u3099" && next !== "\u309a") letter = repeatedKana(previous, letter) ?? letter;
    out.push({ ...tagged, c: letter });
  });
  if (out.at(-1)?.c === " ") out.pop();
  return out;
}

/** The normalised form of `text`. */
export function normalize(text: string): Normalized {
  const out: Normalized = { text: "", chars: [], starts: [], ends: [] };
  let start = 0;
  let end = 0;
  for (const tagged of applyRuns(normalForm(text))) {
    start = Math.max(start, tagged.start);
    end = Math.max(end, tagged.end);
    out.chars.push(tagged.c);
    out.starts.push(start);
    out.ends.push(end);
  }
  out.text = out.chars.join("");
  return out;
}
