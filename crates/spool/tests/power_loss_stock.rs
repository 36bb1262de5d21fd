//! Negative control of the power-loss tests: this program does not use the spool, and so does not
//! have its override of `sync_file_range`. sled must then lose what it has flushed, or the replay
//! would not see what it is there to see.

mod power;

#[test]
fn without_the_override_flushed_rows_are_lost() {
    let (failures, ranges) = power::bare::losses(40);
    assert!(ranges > 100, "sled flushes in another way, or this program has the override");
    assert!(failures.len() > 10, "the replay sees only {} losses", failures.len());
}
