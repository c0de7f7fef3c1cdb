//! Tells the linker where libtorch lies, so that binaries and tests run as they are, and
//! builds the binding of PyTorch's collectives where Gloo's headers are.

use std::path::{Path, PathBuf};

include!("rpath.rs");

const SHIM: &str = "src/distributed/shim.cpp";

fn main() {
    print_rpath();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=rpath.rs");
    println!("cargo:rerun-if-changed={SHIM}");
    println!("cargo:rustc-check-cfg=cfg(collectives)");
    // Where tch takes libtorch from; where it is found otherwise, trainings have one process.
    let Some(libtorch) = std::env::var_os("LIBTORCH").map(PathBuf::from) else {
        without("LIBTORCH does not say where libtorch is");
        return;
    };
    let own = libtorch.join("include");
    // Asked again when they come. A path that is not there would be asked for ever.
    let watched = if has_gloo(&own) {
        own.join("gloo")
    } else {
        own.clone()
    };
    println!("cargo:rerun-if-changed={}", watched.display());
    let places = [own.clone(), PathBuf::from("/usr/include")];
    let Some(headers) = places.iter().find(|place| has_gloo(place)) else {
        without(&format!(
            "Gloo's headers are neither in {} nor in /usr/include",
            own.display()
        ));
        return;
    };
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .define("USE_C10D_GLOO", None)
        // As torch-sys builds its own.
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .define("GLOG_USE_GLOG_EXPORT", None)
        .include(&own)
        .include(own.join("torch/csrc/api/include"))
        .file(SHIM);
    if headers != &own {
        // Behind those of the compiler, which would not find their own after it.
        build.flag("-idirafter").flag("/usr/include");
    }
    build.compile("auria_collectives");
    println!("cargo:rustc-cfg=collectives");
}

fn has_gloo(place: &Path) -> bool {
    place.join("gloo/rendezvous/store.h").is_file()
}

fn without(why: &str) {
    println!(
        "cargo:warning={why}: the trainings are built for one process alone; \
         `cargo xtask libtorch` brings the headers"
    );
}
