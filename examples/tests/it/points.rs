//! A message arrives if, and only if, its order was placed; also where the coordinator has to ask.

use std::process::Command;

#[test]
fn points_follow_the_orders_that_were_placed() {
    let run = Command::new(env!("CARGO_BIN_EXE_points")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let expected = "\
order 1: placed
order 2: the local transaction failed
order 3: placed
placed: [1, 3]; with points: [1, 3]
";
    assert_eq!(said, expected);
}
