//! Networks without input rules, as the trainer starts from them.

use shirube_checkpoint::{Layout, Network};
use shirube_core::Architecture;
use std::path::PathBuf;

#[test]
fn the_trainers_folders_are_read_whole() {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../native-trainer/tests/golden/student");
    for (name, architecture) in [("bert", Architecture::Bert), ("modern-bert", Architecture::ModernBert)] {
        let network = Network::read(&home.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(network.encoder.architecture, architecture);
        assert_ne!(network.layout, Layout::Encoder, "{name} has a projection");
        assert!(network.weights.contains("dense.0.weight"), "{name}");
        assert_eq!(network.dense[0].in_features, network.encoder.hidden_size, "{name}");
    }
}
