//! `shirube dictionary`: a MeCab dictionary package to the parts of a model folder.

use anyhow::{Context as _, Result};
use clap::Args;
use shirube_segment::compile::{LICENSE_FILE, MecabDictionary, compile};
use shirube_site::size;
use std::io::Write as _;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct DictionaryArguments {
    /// Folder with sys.dic, unk.dic, matrix.bin and char.bin: the `dicdir` of the Python package unidic-lite
    dicdir: PathBuf,
    /// Folder for dictionary-0.bin and so on, and for the package's licence
    out: PathBuf,
}

/// Reads the package, writes the parts and says what they weigh.
///
/// # Errors
/// A package that cannot be read, or a folder that cannot be written.
pub(crate) fn run(arguments: &DictionaryArguments) -> Result<()> {
    let DictionaryArguments { dicdir, out } = arguments;
    let license = MecabDictionary::license(dicdir)?;
    let package = MecabDictionary::read(dicdir)?;
    let compiled = compile(&package)?;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let files = compiled.parts().chain([(LICENSE_FILE.to_owned(), license.as_bytes())]);
    let mut lines = String::new();
    for (name, bytes) in files {
        let path = out.join(&name);
        // Through a neighbour, so that what stands under the name is whole.
        let aside = out.join(format!("{name}.part"));
        std::fs::write(&aside, bytes)
            .and_then(|()| std::fs::rename(&aside, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        lines += &format!("{:>10}  {name}\n", size(bytes.len() as u64));
    }
    let (before, after) = compiled.n_entries;
    let (rows, columns) = compiled.matrix;
    lines += &format!("{after} of {before} entries, connections {rows} x {columns}\n");
    std::io::stdout().write_all(lines.as_bytes())?;
    Ok(())
}
