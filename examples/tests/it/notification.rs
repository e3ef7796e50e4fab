//! Best effort has an end, which an operator hears of, and may have it told once more.

use std::process::Command;

#[test]
fn what_the_shop_was_not_told_the_operator_is() {
    let run = Command::new(env!("CARGO_BIN_EXE_notification")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let expected = "\
payment 1: Confirmed
payment 2: Abandoned
the operator hears of \"payment/2/paid\": \"given up after 3 calls; the last saw: status 503\"
payment 2, again: Confirmed
calls of the shop: 5
";
    assert_eq!(said, expected);
}
