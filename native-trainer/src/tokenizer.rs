//! Training a tokenizer: corpus, vocabulary, `tokenizer.json`, `tokenizer.bin`.
//!
//! A Unigram vocabulary is learned on MeCab's words, each cut again where its script changes, and used without MeCab: pieces
//! then cross no word border, and a noun is the same tokens alone and inside a sentence (see docs/tokenizer.md). Three steps:
//!
//! ```text
//! shirube-train tokenizer-corpus DATA... > corpus.txt          # normalised lines
//! python3 native-trainer/scripts/mecab_words.py < corpus.txt > words.tsv
//! shirube-train tokenizer-train --words words.tsv --vocab-size 16384 --out model/
//! ```

use crate::unigram;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use shirube_text::{Normalizer, Rules, Segmenter, Tokenizer, script_pattern, script_runs};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Markers and other special tokens, ids from 0.
pub const SPECIALS: [&str; 6] = ["[PAD]", "[UNK]", "[MASK]", "[Q]", "[D]", "[SEP]"];

/// Scores are multiples of `1 / SCORE_STEPS` nat, so that sums are exact and the compact file loses nothing.
pub const SCORE_STEPS: f64 = 64.0;

/// Arguments of `tokenizer-corpus`.
#[derive(Debug, clap::Args)]
pub struct CorpusArgs {
    /// Files of text: `.jsonl`, `.jsonl.gz`, `.jsonl.zst` (fields `title`, `heading` or `headings`, `text`), `.tsv.gz` (second column).
    #[arg(required = true)]
    pub inputs: Vec<PathBuf>,
    /// Leave out records whose field `source` is this (held out for measuring). Repeatable.
    #[arg(long)]
    pub without_source: Vec<String>,
    /// Take evaluation sets too: to measure a vocabulary, never to learn one.
    #[arg(long)]
    pub evaluation: bool,
    /// Where the lines go; standard output if absent.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Writes the normalised lines of the inputs.
///
/// # Errors
/// Unreadable files, records that are not JSON objects, and evaluation sets among the inputs.
pub fn run_corpus(args: &CorpusArgs) -> Result<()> {
    let out: Box<dyn Write> = match &args.out {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("cannot create {}", path.display()))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let mut out = BufWriter::with_capacity(1 << 20, out);
    if !args.evaluation {
        args.inputs.iter().try_for_each(|path| refuse_evaluation_set(path))?;
    }
    corpus(&args.inputs, &args.without_source, |line| Ok(writeln!(out, "{line}")?))?;
    out.flush()?;
    Ok(())
}

/// Calls `each` with every non-empty normalised line of the inputs: titles and headings where they change, then the text.
///
/// # Errors
/// Unreadable files, records that are not JSON, and whatever `each` returns.
pub fn corpus(
    inputs: &[PathBuf],
    without_source: &[String],
    mut each: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let normalizer = Normalizer::new(Rules::Shirube1);
    for path in inputs {
        let tsv = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".tsv"));
        let mut last_title = String::new();
        let mut emit = |text: &str| -> Result<()> {
            for line in text.split('\n') {
                let normalized = normalizer.normalize(line).text;
                if !normalized.is_empty() {
                    each(&normalized)?;
                }
            }
            Ok(())
        };
        for (number, line) in open(path)?.lines().enumerate() {
            let line =
                line.with_context(|| format!("cannot read {}, line {}", path.display(), number + 1))?;
            if tsv {
                emit(line.split('\t').nth(1).unwrap_or_default())?;
                continue;
            }
            let record: Value = serde_json::from_str(&line)
                .with_context(|| format!("{}, line {}: not a JSON object", path.display(), number + 1))?;
            let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
            if without_source.iter().any(|source| source == field("source")) {
                continue;
            }
            if field("title") != last_title {
                last_title = field("title").to_owned();
                emit(&last_title)?;
            }
            match record.get("headings") {
                Some(Value::Array(headings)) => {
                    emit(headings.last().and_then(Value::as_str).unwrap_or_default())?
                }
                _ => emit(field("heading").rsplit(" > ").next().unwrap_or_default())?,
            }
            emit(field("text"))?;
        }
    }
    Ok(())
}

/// An error if `path` lies in a set that models are measured on.
fn refuse_evaluation_set(path: &Path) -> Result<()> {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let evaluation = parts.iter().any(|part| part == "jsquad")
        || parts.windows(2).any(|w| w[0] == "jaquad" && w[1] == "dev");
    ensure!(
        !evaluation,
        "{} is an evaluation set: a vocabulary learned on it would flatter results; leave it out, or pass --evaluation to measure",
        path.display()
    );
    Ok(())
}

fn open(path: &Path) -> Result<BufReader<Box<dyn Read>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let reader: Box<dyn Read> = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file)?),
        _ => Box::new(file),
    };
    Ok(BufReader::with_capacity(1 << 20, reader))
}

/// Arguments of `tokenizer-train`.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Word counts: lines of `word<TAB>count`. Repeatable; counts add up, so a file named twice weighs double.
    #[arg(long, required = true)]
    pub words: Vec<PathBuf>,
    /// Ids in all: special tokens, byte pieces and pieces.
    #[arg(long, default_value_t = 16_384)]
    pub vocab_size: usize,
    /// Words seen fewer times are left out.
    #[arg(long, default_value_t = 3)]
    pub min_count: u32,
    /// Characters seen fewer times get no piece of their own and fall back to bytes.
    #[arg(long, default_value_t = 100)]
    pub min_char_count: u32,
    /// Longest piece in characters.
    #[arg(long, default_value_t = 12)]
    pub max_piece_length: usize,
    /// Folder for `tokenizer.json` and `tokenizer.bin`.
    #[arg(long)]
    pub out: PathBuf,
}

/// Reads lines of `word <tab> count`.
///
/// # Errors
/// Unreadable files and lines of another form, by file and line.
pub fn read_counts(paths: &[PathBuf]) -> Result<Vec<(String, u32)>> {
    let mut words = Vec::new();
    for path in paths {
        for (number, line) in open(path)?.lines().enumerate() {
            let at = || format!("{}, line {}", path.display(), number + 1);
            let line = line.with_context(at)?;
            let (word, count) =
                line.split_once('\t').with_context(|| format!("{}: no tab between word and count", at()))?;
            let count = count.parse().with_context(|| format!("{}: `{count}` is not a count", at()))?;
            words.push((word.to_owned(), count));
        }
    }
    Ok(words)
}

/// Trains a vocabulary and writes `tokenizer.json` and `tokenizer.bin`.
///
/// # Errors
/// What [`read_counts`] and [`write`] report.
pub fn run_train(args: &TrainArgs) -> Result<()> {
    write(read_counts(&args.words)?, args)
}

/// Counts of the runs of one script in the texts of `inputs`: words where MeCab is not at hand.
///
/// # Errors
/// What [`corpus`] reports.
pub fn count_runs(inputs: &[PathBuf]) -> Result<Vec<(String, u32)>> {
    inputs.iter().try_for_each(|path| refuse_evaluation_set(path))?;
    let mut counts: HashMap<String, u32> = HashMap::new();
    corpus(inputs, &[], |line| {
        for run in script_runs(line) {
            let run = &line[run.bytes];
            match counts.get_mut(run) {
                Some(n) => *n = n.saturating_add(1),
                None => drop(counts.insert(run.to_owned(), 1)),
            }
        }
        Ok(())
    })?;
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    Ok(counts)
}

/// Trains a vocabulary on words with their counts and writes `tokenizer.json` and `tokenizer.bin` into `args.out`.
///
/// # Errors
/// A vocabulary size below what special tokens, bytes and characters need, a folder that cannot be written.
pub fn write(words: Vec<(String, u32)>, args: &TrainArgs) -> Result<()> {
    let sample: Vec<String> = words
        .chunks(7)
        .step_by(words.len().div_ceil(7 * 2_000).max(1))
        .map(|run| run.iter().map(|(w, _)| w.as_str()).collect())
        .collect();
    let json = train(words, args)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let json = serde_json::to_string(&json)?;
    let tokenizer = Tokenizer::from_tokenizer_json(&json, Rules::Shirube1, Segmenter::Script)?;
    check_against_reference(&json, &tokenizer, &sample)?;
    let compact = tokenizer.to_bytes();
    for (name, content) in [("tokenizer.json", json.as_bytes()), ("tokenizer.bin", &compact)] {
        let path = args.out.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Holds our tokenizer to the crate `tokenizers` reading the same `tokenizer.json`: equal ids on normalised `lines`.
///
/// # Errors
/// A file that `tokenizers` refuses, or the first line whose ids differ.
pub fn check_against_reference<T: AsRef<str>>(json: &str, ours: &Tokenizer, lines: &[T]) -> Result<()> {
    let reference = tokenizers::Tokenizer::from_bytes(json)
        .map_err(|e| anyhow::anyhow!("the crate `tokenizers` refuses this tokenizer.json: {e}"))?;
    for line in lines {
        let normalized = ours.normalizer().normalize(line.as_ref());
        let expected = reference.encode_fast(normalized.text.as_str(), false).map_err(|e| {
            anyhow::anyhow!("the crate `tokenizers` cannot encode {:?}: {e}", normalized.text)
        })?;
        let found = ours.encode_normalized(&normalized).ids;
        ensure!(
            expected.get_ids() == found,
            "{:?} has ids {found:?}, but the crate `tokenizers` gives {:?}",
            normalized.text,
            expected.get_ids()
        );
    }
    Ok(())
}

/// The `tokenizer.json` of a vocabulary trained on `words` with their counts.
///
/// # Errors
/// A vocabulary size that special tokens, bytes and the words' characters fill already; a failure inside the trainer.
pub fn train(words: Vec<(String, u32)>, args: &TrainArgs) -> Result<Value> {
    let n_reserved = SPECIALS.len() + 256;
    let mut char_counts: HashMap<char, u64> = HashMap::new();
    for (word, count) in &words {
        for c in word.chars() {
            *char_counts.entry(c).or_default() += u64::from(*count);
        }
    }
    // Normalised ASCII and kana are pieces in any case: input methods type them one by one.
    let alphabet = || ('!'..='~').filter(|c| !c.is_ascii_uppercase()).chain('ぁ'..='ゖ').chain('ァ'..='ー');
    let frequent = |c: char| char_counts.get(&c).is_some_and(|&n| n >= u64::from(args.min_char_count));
    let n_chars =
        char_counts.keys().filter(|&&c| frequent(c)).count() + alphabet().filter(|&c| !frequent(c)).count();
    ensure!(
        args.vocab_size > n_reserved + n_chars,
        "{} ids do not hold {n_reserved} special tokens and bytes and {n_chars} characters; raise vocab_size (--vocab-size) or min_char_count",
        args.vocab_size
    );
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for (word, count) in &words {
        for part in word.split(|c| !frequent(c)).filter(|part| !part.is_empty()) {
            *counts.entry(part).or_default() += u64::from(*count);
        }
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .filter(|&(_, n)| n >= u64::from(args.min_count))
        .map(|(word, n)| (word.to_owned(), n))
        .collect();
    counts.extend(alphabet().map(|c| (c.to_string(), 1)));
    counts.sort_unstable();
    let options = unigram::Options {
        n_pieces: args.vocab_size - n_reserved,
        max_piece_length: args.max_piece_length,
        shrinking_factor: 0.75,
    };
    let pieces: Vec<(String, f64)> = unigram::learn(&counts, options)
        .into_iter()
        .map(|(piece, score)| (piece, (score * SCORE_STEPS).round() / SCORE_STEPS))
        .collect();
    Ok(tokenizer_json(&pieces))
}

/// `tokenizer.json` for the pieces, which follow special tokens and bytes in the order given. The normaliser is `null`: ours
/// runs before.
pub fn tokenizer_json(pieces: &[(String, f64)]) -> Value {
    let mut vocab: Vec<Value> = SPECIALS.iter().map(|s| json!([s, 0.0])).collect();
    vocab.extend((0..256).map(|byte| json!([format!("<0x{byte:02X}>"), 0.0])));
    vocab.extend(pieces.iter().map(|(piece, score)| json!([piece, score])));
    let added: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": script_pattern()}, "behavior": "Removed", "invert": true},
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "Unigram", "unk_id": 1, "vocab": vocab, "byte_fallback": true},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trained_vocabulary_converts_and_reads_its_words_as_one_piece() {
        let words = [("検索", 500), ("全文", 200), ("文書", 300), ("react", 80), ("龘", 1)]
            .map(|(w, n)| (w.to_owned(), n))
            .into();
        let args = TrainArgs {
            words: Vec::new(),
            vocab_size: 600,
            min_count: 2,
            min_char_count: 2,
            max_piece_length: 8,
            out: PathBuf::new(),
        };
        let json = train(words, &args).expect("600 ids are enough").to_string();
        let tokenizer = Tokenizer::from_tokenizer_json(&json, Rules::Shirube1, Segmenter::Script)
            .expect("our own file converts");
        let pieces: Vec<String> = tokenizer
            .encode("ＲＥＡＣＴの全文検索龘")
            .ids
            .iter()
            .filter_map(|&id| tokenizer.piece(id))
            .collect();
        assert_eq!(pieces, ["react", "の", "全文", "検索", "<0xE9>", "<0xBE>", "<0x98>"]);
        assert_eq!(tokenizer.piece(3).as_deref(), Some("[Q]"));
    }

    #[test]
    fn a_vocabulary_too_small_for_its_characters_is_refused() {
        let args = TrainArgs {
            words: Vec::new(),
            vocab_size: 300,
            min_count: 1,
            min_char_count: 1,
            max_piece_length: 8,
            out: PathBuf::new(),
        };
        let error = train(vec![("検索".to_owned(), 5)], &args).expect_err("kana alone need more");
        assert!(error.to_string().contains("vocab_size"), "{error}");
    }

    #[test]
    fn evaluation_sets_are_no_corpus() {
        for path in ["data/jsquad/valid/passages.jsonl.gz", "data/jaquad/dev/passages.jsonl.gz"] {
            assert!(refuse_evaluation_set(Path::new(path)).is_err());
        }
        assert!(refuse_evaluation_set(Path::new("data/jaquad/train/passages.jsonl.gz")).is_ok());
    }
}
