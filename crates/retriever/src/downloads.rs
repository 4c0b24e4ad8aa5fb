//! What a visitor downloads for a query, found by asking the bundle itself.

use crate::{BundleLoader, RetrieverError, SearchOptions};
use shirube_format::FormatError;
use shirube_format::bundle::Need;

/// Bytes that each of `queries` reads of the bundle when it is the first of a visit: the shards of its words and of the hits that are shown. What is
/// read before any query (the entry and [`BundleLoader::word_files`]) is not counted.
///
/// # Errors
/// As [`Retriever::search_words`](crate::Retriever::search_words), and what `fetch` returns.
pub fn query_bytes(
    loader: &BundleLoader,
    queries: &[String],
    options: &SearchOptions,
    mut fetch: impl FnMut(&Need) -> Result<Vec<u8>, FormatError>,
) -> Result<Vec<u64>, RetrieverError> {
    let ask = |query: &String| {
        let mut bytes = 0;
        // A new one each time: what one query brought stays for the next.
        loader.open()?.answer(query, options, &|| 0.0, |need| {
            let part = fetch(need)?;
            bytes += part.len() as u64;
            Ok(part)
        })?;
        Ok(bytes)
    };
    queries.iter().map(ask).collect()
}
