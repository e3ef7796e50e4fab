//! Two databases change together or not at all, and what they hold ready meanwhile is to be seen.

use std::process::Command;

#[test]
fn money_and_stock_are_prepared_and_end_together() {
    let (Some(postgres), Some(mariadb)) = (tcc_tests::postgres(), tcc_tests::mariadb()) else { return };
    let urls = [postgres.database(), mariadb.database()];
    let run = Command::new(env!("CARGO_BIN_EXE_xa")).args(urls).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let expected = "\
order 1: Confirmed
  alice has 2002 cents, the shelf 8 books; prepared: 0
order 2: Cancelled: branch money refused: insufficient funds
  alice has 2002 cents, the shelf 8 books; prepared: 0
order 3: prepared: order/3 stock, order/3 money
order 3: Cancelled: the customer thought better of it
  alice has 2002 cents, the shelf 8 books; prepared: 0
";
    assert_eq!(said, expected);
}
