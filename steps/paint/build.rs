//! Tells the linker where libtorch lies, so that binaries and tests run as they are.

include!("../common/rpath.rs");

fn main() {
    print_rpath();
}
