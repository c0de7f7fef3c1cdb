// Shared by the build scripts of the steps (`include!("../common/rpath.rs")`):
// link arguments reach only the package whose build script prints them, so each
// step has a build script of its own, and they all call this one function. With
// it a binary finds libtorch without LD_LIBRARY_PATH: where it was built, and
// where a package puts `libtorch/` beside its `bin/`.
fn print_rpath() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../libtorch/lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../libtorch/lib");
}
