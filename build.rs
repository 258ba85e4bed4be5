//! Lets the binaries and tests find LibTorch at run time without `LD_LIBRARY_PATH`.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
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
