/** Where a query's words stand in a section (crates/retriever/src/marks.rs and results.rs). */

import type { Highlight, Highlights, Section } from "../types.js";
import { normalize } from "./normalize.js";

/** Marks weaker than this are left out: particles match everywhere and weigh next to nothing. */
const MIN_STRENGTH = Math.fround(0.12);

/** Marks every place of `terms`, each with its weight of 0 to 1, in the parts of `section`. Bigrams that overlap make one mark. */
export function mark(section: Section, terms: ReadonlyMap<string, number>): Highlights {
  const strong = [...terms].filter(([, strength]) => strength >= MIN_STRENGTH);
  const of = (text: string) => apart(places(text, strong));
  return { title: of(section.title), headings: section.headings.map(of), text: of(section.text) };
}

function places(text: string, terms: [term: string, strength: number][]): Highlight[] {
  const normalized = normalize(text);
  // The character that each code unit of the normalised text belongs to.
  const chars = normalized.chars.flatMap((c, i) => (c.length === 1 ? [i] : [i, i]));
  const isWord = (at: number) => /^[a-zA-Z0-9]$/.test(normalized.text.charAt(at));
  const out: Highlight[] = [];
  for (const [term, strength] of terms) {
    // A word of Latin letters is found whole or not at all.
    const whole = /^[a-zA-Z0-9]*$/.test(term);
    for (let start = normalized.text.indexOf(term); start >= 0; start = normalized.text.indexOf(term, start + term.length)) {
      const end = start + term.length;
      if (whole && (isWord(start - 1) || isWord(end))) continue;
      out.push({ range: { start: normalized.starts[chars[start] as number] as number, end: normalized.ends[chars[end - 1] as number] as number }, strength });
    }
  }
  return out;
}

/** Overlapping ranges cut at every edge, the strongest kept for each piece, equal neighbours joined. */
function apart(marks: Highlight[]): Highlight[] {
  const edges = [...new Set(marks.flatMap(({ range }) => [range.start, range.end]))].sort((a, b) => a - b);
  const out: Highlight[] = [];
  for (let i = 0; i + 1 < edges.length; i++) {
    const [start, end] = [edges[i] as number, edges[i + 1] as number];
    const covering = marks.filter(({ range }) => range.start <= start && end <= range.end);
    if (covering.length === 0) continue;
    const strength = Math.max(...covering.map((mark) => mark.strength));
    const last = out.at(-1);
    if (last && last.range.end === start && last.strength === strength) last.range.end = end;
    else out.push({ range: { start, end }, strength });
  }
  return out;
}
