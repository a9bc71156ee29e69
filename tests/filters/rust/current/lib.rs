include!("../matrix.rs");
