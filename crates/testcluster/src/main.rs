//! `testcluster up|down|env|logs`.

fn main() {}
