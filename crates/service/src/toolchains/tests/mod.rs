mod diagnostics;
mod languages;
