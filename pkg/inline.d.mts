/**
 * The text of a classic script that holds the bundle in `folder` (as `shirube build` wrote it), the model, the engine and the elements: a page
 * with `<script src="search.js"></script><shirube-search></shirube-search>` then searches without a server, also from `file://`.
 *
 * @throws where `folder` is no bundle.
 */
export function inline(folder: string): Promise<string>;
