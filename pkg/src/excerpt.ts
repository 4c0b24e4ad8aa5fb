/** From what the engine found to what is shown: an excerpt with marked runs, and pairs of words. Pure functions. */

import type { Highlight, Hit, Place, SearchResult } from "./types.js";

/** A run of text with one level: 0 is plain, 1 to 4 from faint to strong. */
export interface Run {
  text: string;
  level: number;
  /** Whether it belongs to the best-matching sentence of the excerpt. */
  passage?: true;
}

/** A phrase of the query and the phrase of the hit that answered it. */
export interface Pair {
  asked: string;
  found: string;
  level: number;
}

/** Room given to a sentence that would otherwise lose its last words. */
const OVERHANG = 24;
const SENTENCE_END = /[。！？\n]/;

function level(strength: number): number {
  return strength < 0.12 ? 0 : Math.min(4, 1 + Math.floor((strength - 0.12) / 0.2));
}

/** A particle or an ending: no reason to show a section, however well it is met. */
const PARTICLE = /^\p{Script=Hiragana}{1,2}$/u;

/** The highlights worth a reader's eye: lone particles go, those that continue a marked word stay. */
export function telling(text: string, highlights: Highlight[]): Highlight[] {
  const particle = ({ range }: Highlight) => PARTICLE.test(text.slice(range.start, range.end));
  return highlights.filter((mark, i) => {
    if (!particle(mark)) return true;
    const before = highlights[i - 1];
    return before !== undefined && before.range.end === mark.range.start && !particle(before);
  });
}

/** `text` from `start` to `end`, cut into runs. */
export function runs(text: string, highlights: Highlight[], start = 0, end = text.length): Run[] {
  const out: Run[] = [];
  const push = (from: number, to: number, l: number) => {
    if (to <= from) return;
    const last = out[out.length - 1];
    if (last && last.level === l) last.text += text.slice(from, to);
    else out.push({ text: text.slice(from, to), level: l });
  };
  let at = start;
  for (const { range, strength } of highlights) {
    const from = Math.max(range.start, at);
    const to = Math.min(range.end, end);
    if (to <= from) continue;
    push(at, from, 0);
    push(from, to, level(strength));
    at = to;
  }
  push(at, end, 0);
  return out;
}

/** The stretch of the section's text that holds the most of the match, begun and ended with a sentence where one is near. */
export function excerpt(hit: Hit, length = 120): Run[] {
  const { text } = hit.section;
  const marks = telling(text, hit.highlights.text);
  // Squared, so that one word met exactly counts more than three vague ones.
  const sums = new Float64Array(text.length + 1);
  for (const { range, strength } of marks) {
    const each = strength ** 2 / Math.max(1, range.end - range.start);
    for (let i = range.start; i < Math.min(range.end, text.length); i++) sums[i + 1] = each;
  }
  for (let i = 1; i < sums.length; i++) sums[i] = (sums[i] ?? 0) + (sums[i - 1] ?? 0);
  const between = (from: number, to: number) => (sums[to] ?? 0) - (sums[from] ?? 0);
  // Windows that begin at a mark hold no less than any other.
  let first = 0;
  let most = -1;
  for (const { range } of marks) {
    const held = between(range.start, Math.min(text.length, range.start + length));
    if (held > most + 1e-9) {
      most = held;
      first = range.start;
    }
  }
  const lastMark = marks.filter(({ range }) => range.end <= first + length).at(-1)?.range.end ?? first;
  const spare = Math.max(0, length - (lastMark - first));
  const sentence = text.slice(0, first).search(/[。！？\n][^。！？\n]*$/) + 1;
  let start = first - sentence <= spare ? sentence : Math.max(0, first - Math.floor(spare / 2));
  if (start > 0 && start !== sentence) {
    // In the middle of a sentence a clause is the next best place to begin.
    const clause = text.slice(start, first).search(/[、，,・\s]/);
    if (clause >= 0) start += clause + 1;
  }
  let end = Math.min(text.length, start + length);
  if (end < text.length) {
    const more = text.slice(end, end + OVERHANG).search(SENTENCE_END);
    const less = text.slice(0, end).search(/[。！？\n][^。！？\n]*$/) + 1;
    if (more >= 0) end += more + 1;
    else if (less >= lastMark && less - start > length / 2) end = less;
  }
  if (end === text.length && end - start < length) {
    // The text ends early: what is left over goes to whole sentences before.
    const earliest = Math.max(0, end - length);
    const before = earliest === 0 ? 0 : earliest + 1 + text.slice(earliest, start).search(SENTENCE_END);
    if (before > earliest || earliest === 0) start = Math.min(start, before);
  }
  start = whole(text, start);
  end = whole(text, end);
  while (start < end && /\s/.test(text[start] ?? "")) start++;
  const best = bestSentence(text, start, end, between);
  const out = [
    ...runs(text, marks, start, best.start),
    ...runs(text, marks, best.start, best.end).map((run): Run => ({ ...run, passage: true })),
    ...runs(text, marks, best.end, end),
  ].map((run) => ({ ...run, text: run.text.replace(/\s*\n\s*/g, " ") }));
  if (start > 0) out.unshift({ text: "…", level: 0 });
  if (end < text.length && !SENTENCE_END.test(text[end - 1] ?? "")) out.push({ text: "…", level: 0 });
  return out;
}

/** The sentence from `start` to `end` with the most of the match in it; nothing where there is one sentence or no match. */
function bestSentence(text: string, start: number, end: number, between: (from: number, to: number) => number): { start: number; end: number } {
  const sentences: { start: number; end: number }[] = [];
  for (let at = start; at < end; ) {
    const length = text.slice(at, end).search(SENTENCE_END);
    const stop = length < 0 ? end : at + length + 1;
    if (text.slice(at, stop).trim() !== "") sentences.push({ start: at, end: stop });
    at = stop;
  }
  let best = { start: end, end };
  let most = 1e-9;
  for (const sentence of sentences.length > 1 ? sentences : []) {
    const sum = between(sentence.start, sentence.end);
    if (sum > most) {
      most = sum;
      best = sentence;
    }
  }
  return best;
}

/** The words of the best-matching sentence, for a link that scrolls to it. */
export function passageText(runs: Run[]): string {
  const inside = runs.filter((run) => run.passage);
  return (inside.length > 0 ? inside : runs.filter((run) => run.text !== "…")).map((run) => run.text).join("").trim();
}

/** Why a hit is there: high among the hits by the query's words (BM25), by meaning (MaxSim), or by both; at least by the one it is higher in. */
export function reasons(result: SearchResult, hit: Hit): { words: boolean; meaning: boolean } {
  const most = Math.max(...result.hits.map((other) => other.lexical));
  const words = most > 0 ? hit.lexical / most : 0;
  // MaxSim has no zero of its own: every section has some of it.
  const all = result.hits.map((other) => other.maxsim);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const meaning = high > low ? (hit.maxsim - low) / (high - low) : high > 0 ? 1 : 0;
  const least = Math.min(0.5, Math.max(words, meaning));
  return { words: words > 0 && words >= least, meaning: meaning >= least && (meaning > 0 || words === 0) };
}

const partText = (hit: Hit, { part, heading }: Place) =>
  part === "title" ? hit.section.title : part === "heading" ? (hit.section.headings[heading] ?? "") : hit.section.text;

const textAt = (hit: Hit, place: Place) => partText(hit, place).slice(place.range.start, place.range.end);

/** Never between the halves of a surrogate pair. */
function whole(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return at > 0 && code >= 0xdc00 && code <= 0xdfff ? at - 1 : at;
}

/** Phrases: query tokens in a row whose counterparts stand in a row too are one pair. The strongest, in the order of the query. */
export function explain(result: SearchResult, hit: Hit, most = 6): Pair[] {
  const heaviest = Math.max(...hit.matches.map((match) => match.contribution));
  const phrases: { start: number; end: number; place: Place; strength: number }[] = [];
  for (const match of hit.matches) {
    const token = result.queryTokens[match.queryToken];
    if (!token || match.similarity < 0.4) continue;
    const strength = match.contribution / heaviest;
    const last = phrases[phrases.length - 1];
    const next =
      last &&
      last.end === token.range.start &&
      match.places.find(({ part, heading, range }) => part === last.place.part && heading === last.place.heading && follows(last.place.range.end, range.start, last.place.range.start, range.end));
    if (last && next) {
      last.end = token.range.end;
      last.place = { ...last.place, range: { start: Math.min(last.place.range.start, next.range.start), end: Math.max(last.place.range.end, next.range.end) } };
      last.strength = Math.max(last.strength, strength);
      continue;
    }
    const [place] = match.places;
    if (place) phrases.push({ ...token.range, place, strength });
  }
  return phrases
    .map(({ start, end, place, strength }) => ({
      at: start,
      strength,
      asked: result.query.slice(start, end).trim(),
      found: textAt(hit, place).replace(/\s+/g, " ").trim(),
    }))
    .filter(({ asked, found, strength }) => found !== "" && level(strength) > 0 && /[\p{L}\p{N}]/u.test(asked) && !PARTICLE.test(asked))
    .sort((a, b) => b.strength - a.strength)
    .slice(0, most)
    .sort((a, b) => a.at - b.at)
    .map(({ asked, found, strength }) => ({ asked, found, level: level(strength) }));
}

/** Whether a piece begins where the last one ended, or lies inside it (one pooled token that several query tokens met). */
function follows(lastEnd: number, start: number, lastStart: number, end: number): boolean {
  return start === lastEnd || (start >= lastStart && end <= lastEnd);
}
