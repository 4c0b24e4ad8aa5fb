/** Other spellings of what was typed (crates/lexical/src/variants.rs and romaji.rs, which say why each rule is there). */

import { compareText } from "./terms.js";

/** Most variants of one query. */
const MOST = 16;

const SPELLING = Math.fround(0.6);
/** Another script is a bolder guess. */
const SCRIPT = Math.fround(0.5);

/** One other spelling of a piece of a query. */
export interface Variant {
  /** The piece it stands for, in code units. */
  start: number;
  end: number;
  /** What stands there instead. */
  text: string;
  weight: number;
  /** Only where nothing has the words as typed. */
  lastResort: boolean;
}

/** Kana after which the small one is also written large. */
const SMALL: [after: string, small: string, large: string][] = [
  ["フヴウクグツ", "ァ", "ア"],
  ["フヴウクテデ", "ィ", "イ"],
  ["トドテデ", "ゥ", "ウ"],
  ["フヴウクシジチツイ", "ェ", "エ"],
  ["フヴウクツ", "ォ", "オ"],
  ["キシチニヒミリギジビピテデフ", "ャ", "ヤ"],
  ["キシチニヒミリギジビピテデフ", "ュ", "ユ"],
  ["キシチニヒミリギジビピテデフ", "ョ", "ヨ"],
];

const E_ROW = "エケセテネヘメレゲゼデベペェ";
const O_ROW = "オコソトノホモロゴゾドボポォョ";
const LONG_ENDS = "タダサザバパラマカガハワナャァリシチジニミビピキギィ";

/** Kanji of verbs, each before the kana that follows in compounds. */
const OKURIGANA =
  "上げ下げ並べ乗り付け借り入れ出し切り割り取り受け合い含み呼び問い埋め売り変え外し太り届け差し巻き引き張り当て待ち戻し打ち払い扱い折り抜き押し持ち振り掛け換え書き替え植え消し焼き申し留め積み突き立て組み続き締め繰り聞き落し詰め話し読み買い貸し貼り起き込み返し追い送り重ね釣り閉じ開き降り食べ飲み";
const AFTER_VERB = "数物所場口手紙際値金書先元方";
const IN_COUNTS = "ヶケヵカか";

const isKanji = (c: string): boolean => (c >= "\u4e00" && c <= "\u9fff") || c === "々";
const isKatakana = (c: string): boolean => (c >= "ァ" && c <= "ヺ") || c === "ー";
const isHiragana = (c: string): boolean => c >= "ぁ" && c <= "ゖ";
const isLetter = (c: string): boolean => /^[\p{Alphabetic}\p{N}]$/u.test(c);
/** Whether `c` is one of the characters of `set`. */
const among = (set: string, c: string): boolean => c !== "" && set.includes(c);
const toKatakana = (c: string): string => (isHiragana(c) ? String.fromCharCode(c.charCodeAt(0) + 0x60) : c);
const toHiragana = (c: string): string => (c >= "ァ" && c <= "ヶ" ? String.fromCharCode(c.charCodeAt(0) - 0x60) : c);

function okurigana(c: string): string | undefined {
  const at = c === "" ? -1 : OKURIGANA.indexOf(c);
  return at >= 0 && at % 2 === 0 ? OKURIGANA.charAt(at + 1) : undefined;
}

/** The other spellings of the pieces of a normalised text, in its order. */
export function variants(text: string): Variant[] {
  const chars = [...text];
  const offsets: number[] = [0];
  for (const c of chars) offsets.push((offsets.at(-1) as number) + c.length);
  const found: Variant[] = [];
  const at = (i: number): string => chars[i] ?? "";
  const add = (from: number, to: number, text: string, weight = SPELLING, lastResort = false) =>
    void found.push({ start: offsets[from] as number, end: offsets[to] as number, text, weight, lastResort });
  /** First and last (after it) character of the run around `i`. */
  const run = (i: number, is: (c: string) => boolean): [number, number] => {
    let [start, end] = [i, i];
    while (start > 0 && is(at(start - 1))) start -= 1;
    while (end < chars.length && is(at(end))) end += 1;
    return [start, end];
  };

  /** サーバー and サーバ, インターフェース and インタフェース, フェイス and フェース, ボウル and ボール. */
  const longMarks = (i: number) => {
    const c = at(i);
    if (!isKatakana(c)) return;
    const [start, end] = run(i, isKatakana);
    const before = at(i - 1);
    const long = i > start;
    if (c === "ー") {
      if (i >= start + 3 && (i + 1 === end || end - start >= 6)) add(i, i + 1, "");
      if (long && among(E_ROW, before)) add(i, i + 1, "イ");
      if (long && among(O_ROW, before)) add(i, i + 1, "ウ");
      return;
    }
    if (long && ((c === "イ" && among(E_ROW, before)) || (c === "ウ" && among(O_ROW, before)))) add(i, i + 1, "ー");
    const next = at(i + 1);
    const ends = i + 1 === end || end - start >= 5;
    if (i >= start + 2 && ends && among(LONG_ENDS, c) && next !== "ー" && !among("ァィゥェォャュョ", next)) add(i, i + 1, `${c}ー`);
  };

  /** ウェブ and ウエブ, コンピュータ and コンピユータ, ヴァイオリン as バイオリン. */
  const smallKana = (i: number) => {
    const [c, before] = [at(i), at(i - 1)];
    for (const [after, small, large] of SMALL) {
      if (!among(after, before)) continue;
      if (c === small) add(i, i + 1, large);
      else if (c === large) add(i, i + 1, small);
    }
    if (c !== "ヴ") return;
    const small = "ァィェォ".indexOf(at(i + 1) || "-");
    if (small >= 0) add(i, i + 2, "バビベボ".charAt(small));
    else add(i, i + 1, "ブ");
  };

  /** 三ヶ月, 三か月 and 三カ月. */
  const counts = (i: number) => {
    const [c, before] = [at(i), at(i - 1)];
    if (!among(IN_COUNTS, c) || !isKanji(at(i + 1))) return;
    const number = /^[0-9]$/.test(before) || among("一二三四五六七八九十百千数何", before);
    if (number || (c !== "か" && isKanji(before))) {
      for (const other of "ヶかカケ") if (other !== c) add(i, i + 1, other);
    }
  };

  /** 人々 and 人人. */
  const repeated = (i: number) => {
    const [c, before] = [at(i), at(i - 1)];
    if (!isKanji(before) || before === "々") return;
    if (c === "々") add(i, i + 1, before);
    else if (c === before) add(i, i + 1, "々");
  };

  /** 取り扱い, 取扱い and 取扱. */
  const compoundVerbs = (i: number) => {
    const c = at(i);
    const kana = okurigana(c);
    if (kana === undefined) return;
    // The second part, with or without the kana of the first between.
    const full = at(i + 1) === kana;
    const j = full ? i + 2 : i + 1;
    const second = at(j);
    const tail = okurigana(second);
    if (tail === undefined && !(full && among(AFTER_VERB, second))) return;
    if (full) {
      add(i + 1, j, "");
      if (tail !== undefined && at(j + 1) === tail) add(i, j + 2, c + second);
    } else {
      add(i, j + 1, c + kana + second);
      if (tail !== undefined && !isHiragana(at(j + 1))) {
        add(i, j + 1, c + kana + second + tail);
        add(i, j + 1, c + second + tail);
      }
    }
  };

  const latin = (start: number, end: number) => {
    if (end - start < 4 || isLetter(at(start - 1)) || isLetter(at(end))) return;
    const letters = chars.slice(start, end).join("");
    const [long, plain] = [katakanaOf(letters, true), katakanaOf(letters, false)];
    if (long === undefined || plain === undefined || plain.length < 2) return;
    add(start, end, long, SCRIPT, true);
    add(start, end, [...plain].map(toHiragana).join(""), SCRIPT, true);
  };

  /** Whole words in the other kana, and Latin letters as kana. */
  const scripts = () => {
    for (let i = 0; i < chars.length; ) {
      const c = at(i);
      if (isHiragana(c)) {
        const [start, end] = run(i, (c) => isHiragana(c) || c === "ー");
        const alone = (c: string) => !isKanji(c) && !isKatakana(c) && !isLetter(c);
        // Among kanji, hiragana are endings and particles; standing alone, a word.
        if (end - start >= 3 && end - start <= 12 && alone(at(start - 1)) && alone(at(end))) add(start, end, chars.slice(start, end).map(toKatakana).join(""), SCRIPT);
        i = end;
      } else if (isKatakana(c)) {
        const [start, end] = run(i, isKatakana);
        const word = chars.slice(start, end);
        if (word.length >= 2 && word.length <= 6 && !word.some((c) => among("ーヴァィゥェォ", c))) add(start, end, word.map(toHiragana).join(""), SCRIPT);
        i = end;
      } else if (c >= "a" && c <= "z") {
        const [start, end] = run(i, (c) => (c >= "a" && c <= "z") || c === "-" || c === "'");
        latin(start, end);
        i = end;
      } else i += 1;
    }
  };

  for (let i = 0; i < chars.length; i++) for (const rule of [longMarks, smallKana, counts, repeated, compoundVerbs]) rule(i);
  scripts();
  found.sort((a, b) => a.start - b.start || a.end - b.end || compareText(a.text, b.text));
  return found.filter((v, i) => !(i > 0 && v.start === found[i - 1]?.start && v.end === found[i - 1]?.end && v.text === found[i - 1]?.text)).slice(0, MOST);
}

/** Syllables of one consonant (or cluster) with a, i, u, e, o; `・` where there is none. */
const ROWS: Record<string, string> = {
  "": "ア イ ウ エ オ",
  k: "カ キ ク ケ コ",
  c: "カ ・ ク ・ コ",
  s: "サ シ ス セ ソ",
  t: "タ チ ツ テ ト",
  n: "ナ ニ ヌ ネ ノ",
  h: "ハ ヒ フ ヘ ホ",
  m: "マ ミ ム メ モ",
  y: "ヤ ・ ユ イェ ヨ",
  r: "ラ リ ル レ ロ",
  w: "ワ ウィ ・ ウェ ヲ",
  g: "ガ ギ グ ゲ ゴ",
  z: "ザ ジ ズ ゼ ゾ",
  j: "ジャ ジ ジュ ジェ ジョ",
  d: "ダ ヂ ヅ デ ド",
  b: "バ ビ ブ ベ ボ",
  p: "パ ピ プ ペ ポ",
  f: "ファ フィ フ フェ フォ",
  v: "ヴァ ヴィ ヴ ヴェ ヴォ",
  sh: "シャ シ シュ シェ ショ",
  ch: "チャ チ チュ チェ チョ",
  ts: "ツァ ツィ ツ ツェ ツォ",
  th: "テャ ティ テュ テェ テョ",
  dh: "デャ ディ デュ デェ デョ",
  wh: "ウァ ウィ ウ ウェ ウォ",
  kw: "クァ クィ ・ クェ クォ",
  ky: "キャ ・ キュ ・ キョ",
  gy: "ギャ ・ ギュ ・ ギョ",
  sy: "シャ ・ シュ シェ ショ",
  zy: "ジャ ・ ジュ ジェ ジョ",
  jy: "ジャ ・ ジュ ジェ ジョ",
  ty: "チャ ・ チュ チェ チョ",
  cy: "チャ ・ チュ チェ チョ",
  dy: "ヂャ ・ ヂュ ・ ヂョ",
  ny: "ニャ ・ ニュ ・ ニョ",
  hy: "ヒャ ・ ヒュ ・ ヒョ",
  by: "ビャ ・ ビュ ・ ビョ",
  py: "ピャ ・ ピュ ・ ピョ",
  my: "ミャ ・ ミュ ・ ミョ",
  ry: "リャ ・ リュ ・ リョ",
  fy: "フャ ・ フュ ・ フョ",
  tw: "・ ・ トゥ ・ ・",
  dw: "・ ・ ドゥ ・ ・",
};
const VOWELS = "aiueo";

/** The katakana that `letters` spell; a doubled vowel becomes a long mark where `long` says so. */
function katakanaOf(letters: string, long: boolean): string | undefined {
  const at = (i: number): string => letters.charAt(i);
  const vowel = (i: number): boolean => among(VOWELS, at(i));
  let out = "";
  for (let i = 0; i < letters.length; ) {
    const [c, next] = [at(i), at(i + 1)];
    if (c === "-") {
      if (out === "") return undefined;
      out += "ー";
      i += 1;
    } else if (long && i > 0 && vowel(i) && at(i - 1) === c) {
      out += "ー";
      i += 1;
    } else if (c === "n" && !vowel(i + 1) && next !== "y") {
      // ン: n before a consonant or the end, n' and nn; konna is コンナ, konn is コン.
      out += "ン";
      i += next === "'" || (next === "n" && !vowel(i + 2) && at(i + 2) !== "y") ? 2 : 1;
    } else if (c === "m" && among("bpm", next)) {
      out += "ン";
      i += 1;
    } else if ((next === c || (c === "t" && next === "c")) && c >= "a" && c <= "z" && !vowel(i)) {
      out += "ッ";
      i += 1;
    } else {
      // The longest cluster first: two consonants, one, none.
      const size = [2, 1, 0].find((n) => i + n < letters.length && vowel(i + n) && syllable(letters.slice(i, i + n), at(i + n)) !== undefined);
      if (size === undefined) return undefined;
      out += syllable(letters.slice(i, i + size), at(i + size));
      i += size + 1;
    }
  }
  return out;
}

function syllable(consonants: string, vowel: string): string | undefined {
  const kana = Object.hasOwn(ROWS, consonants) ? ROWS[consonants]?.split(" ")[VOWELS.indexOf(vowel)] : undefined;
  return kana === "・" ? undefined : kana;
}
