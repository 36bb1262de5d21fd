//! The bugs that `cargo xtask mutants` plants are in no program but its own.

use memchr::memmem;

/// What the name of every planted bug begins with.
const PREFIX: &[u8] = b"mutant: ";

#[test]
fn the_program_contains_no_planted_bug() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_waypost")).unwrap();
    assert!(memmem::find(&program, PREFIX).is_none());
    // It would be found: this test itself has it.
    let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(memmem::find(&this, PREFIX).is_some());
}
