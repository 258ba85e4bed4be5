//! Names the commit in the program and, for a build that trains, says where LibTorch lies, so that the loader finds it
//! without `LD_LIBRARY_PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    name_commit();
    if std::env::var_os("CARGO_FEATURE_TRAIN").is_some() {
        find_libtorch();
    }
}

/// `SEGUE_GIT_COMMIT` where a build without a repository sets it, as the container's does; else what git says.
fn name_commit() {
    println!("cargo:rerun-if-env-changed=SEGUE_GIT_COMMIT");
    let log = Path::new(".git/logs/HEAD"); // grows with every commit and checkout
    if log.exists() {
        println!("cargo:rerun-if-changed={}", log.display());
    }
    let from_git = || {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = std::env::var("SEGUE_GIT_COMMIT").ok().or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=SEGUE_GIT_COMMIT={commit}");
}

fn find_libtorch() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_LIB");
    let Some(root) = std::env::var_os("LIBTORCH_LIB").or_else(|| std::env::var_os("LIBTORCH")) else {
        return; // a system-wide LibTorch, which the loader finds by itself
    };
    let lib = PathBuf::from(root).join("lib");
    // The link in the checkout may go; what it points at is the cache.
    let lib = match lib.canonicalize() {
        Ok(lib) => lib,
        Err(error) => {
            println!("cargo:error=no LibTorch at {}: {error}. `make setup` puts it there.", lib.display());
            return;
        }
    };
    // Old-style RPATH reaches what libtorch_cpu.so itself needs; `$ORIGIN/../lib` is where the container image has it.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{},-rpath,$ORIGIN/../lib", lib.display());
}
