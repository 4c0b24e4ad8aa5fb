//! `cargo run -p shirube-testkit --example random_model -- FOLDER` writes the model folder of `random_model(1)`: two blocks of 48 with random weights, for tests
//! that want the whole path and little arithmetic.

use shirube_format::model::folder;
use shirube_testkit::{RandomShape, random_model};

fn main() -> std::io::Result<()> {
    let folder_path = std::env::args().nth(1).map(std::path::PathBuf::from);
    let folder_path = folder_path.ok_or_else(|| std::io::Error::other("which folder?"))?;
    let (manifest, files) = random_model(1, &RandomShape::default()).quantized().files();
    folder::write(&folder_path, manifest, &files).map(drop).map_err(std::io::Error::other)
}
