//! What is placed while the coordinator is away is delivered once it is there, and nothing else.

use std::process::Command;

#[test]
fn points_come_once_there_is_a_coordinator() {
    let run = Command::new(env!("CARGO_BIN_EXE_outbox")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let expected = "\
order 1: placed
order 2: placed
order 2: the local transaction failed
order 3: placed
waiting in the outbox: 3
placed: [1, 2, 3]; with points: [1, 2, 3]
";
    assert_eq!(said, expected);
}
