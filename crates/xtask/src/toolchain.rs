//! Finds, or gets, a standard library for `wasm32-unknown-unknown`.
//!
//! The normal way is the target that rustup installs. Where rustup is absent or cannot fetch it, Debian's `rustc-web`,
//! `cargo-web` and `rust-web-src` build the standard library from source; they bring no linker, so the `rust-lld` of any other
//! toolchain, or Debian's `lld`, links.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The browser's target triple.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// How wasm is compiled on this machine.
pub(crate) enum Toolchain {
    /// The default toolchain has the target.
    Target,
    /// Debian's compiler builds the standard library too.
    Debian {
        /// `rust-lld` or `wasm-ld`.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// A `cargo` command set up for this toolchain; the caller adds the subcommand's own arguments.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut command;
        match self {
            Self::Target => {
                command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                command.args(["build", "--target", TARGET]);
            }
            Self::Debian { linker } => {
                command = Command::new("/usr/bin/cargo");
                command.args(["build", "--target", TARGET, "-Zbuild-std=std,panic_abort"]);
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                // Set by a rustup proxy for the cargo that runs this program; they would name the other toolchain.
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTDOC").env_remove("CARGO");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        command
    }

    /// A name for folders and messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Debian { .. } => "debian",
        }
    }

    /// What the compiler says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        let program = match self {
            Self::Target => "rustc",
            Self::Debian { .. } => "/usr/bin/rustc",
        };
        text(Command::new(program).arg("--version")).context("the Rust compiler does not answer")
    }
}

/// Finds a toolchain and says which. `SHIRUBE_WASM_STD=target` or `debian` decides by hand.
pub(crate) fn find() -> Result<Toolchain> {
    let wish = std::env::var("SHIRUBE_WASM_STD").unwrap_or_default();
    if wish != "debian" {
        if has_target() {
            println!("wasm: the Rust toolchain has the target {TARGET}");
            return Ok(Toolchain::Target);
        }
        if text(Command::new("rustup").arg("--version")).is_ok() {
            println!("wasm: rustup target add {TARGET}");
            let added = Command::new("rustup").args(["target", "add", TARGET]).status();
            if added.is_ok_and(|status| status.success()) && has_target() {
                return Ok(Toolchain::Target);
            }
            println!("wasm: rustup could not add the target; looking for Debian's packages");
        }
    }
    if wish != "target" {
        if !debian_has_sources() && Path::new("/usr/bin/apt-get").exists() && is_root() {
            println!("wasm: apt-get install rustc-web cargo-web rust-web-src");
            apt_install(&["rustc-web", "cargo-web", "rust-web-src"])?;
        }
        if debian_has_sources() {
            let linker = linker()?;
            println!("wasm: Debian's compiler builds the standard library; {} links", linker.display());
            return Ok(Toolchain::Debian { linker });
        }
    }
    bail!(
        "no standard library for {TARGET}. Either `rustup target add {TARGET}`, or on Debian \
         `sudo apt-get install rustc-web cargo-web rust-web-src`; then run this again"
    )
}

fn has_target() -> bool {
    let Ok(folder) = text(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))
    else {
        return false;
    };
    std::fs::read_dir(folder).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore")))
    })
}

fn debian_has_sources() -> bool {
    ["/usr/bin/cargo", "/usr/bin/rustc", "/usr/lib/rustlib/src/rust/library/std/src/lib.rs"]
        .iter()
        .all(|path| Path::new(path).exists())
}

/// `rust-lld` of the default toolchain or of rustup's stable, else Debian's `wasm-ld`.
fn linker() -> Result<PathBuf> {
    for mut rustc in [Command::new("rustc"), rustup_stable()] {
        let Ok(root) = text(rustc.args(["--print", "sysroot"])) else { continue };
        let Ok(hosts) = std::fs::read_dir(Path::new(&root).join("lib/rustlib")) else { continue };
        let found = hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.exists());
        if let Some(path) = found {
            return Ok(path);
        }
    }
    for path in ["/usr/bin/wasm-ld", "/usr/bin/rust-lld"] {
        if Path::new(path).exists() {
            return Ok(path.into());
        }
    }
    if is_root() {
        println!("wasm: apt-get install lld (no rust-lld was found)");
        apt_install(&["lld"])?;
        if Path::new("/usr/bin/wasm-ld").exists() {
            return Ok("/usr/bin/wasm-ld".into());
        }
    }
    bail!(
        "no linker for {TARGET}: install a rustup toolchain (it has rust-lld) or `sudo apt-get install lld`"
    )
}

fn rustup_stable() -> Command {
    let mut command = Command::new("rustc");
    command.arg("+stable");
    command
}

fn is_root() -> bool {
    text(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
    };
    let install = [&["install", "-y", "--no-install-recommends"][..], packages].concat();
    if apt(&install).is_ok_and(|status| status.success()) {
        return Ok(());
    }
    // An empty package list is the usual reason on a fresh machine.
    let updated = apt(&["update"]).context("apt-get did not start")?;
    anyhow::ensure!(updated.success(), "apt-get update failed");
    let installed = apt(&install).context("apt-get did not start")?;
    anyhow::ensure!(installed.success(), "apt-get install {} failed", packages.join(" "));
    Ok(())
}

/// The trimmed output of a command that succeeds.
fn text(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
