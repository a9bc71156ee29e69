// The host calls of this version do not name their module, so the linker has to let them through.
fn main() {
    println!("cargo:rustc-link-arg-cdylib=--allow-undefined");
}
