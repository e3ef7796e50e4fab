//! A coordinator in the process of its participants.

use std::process::Command;

#[test]
fn orders_are_followed_until_the_money_is_spent_over_three_processes() {
    let folder = tempfile::TempDir::new().unwrap();
    let order = || {
        let run = Command::new(env!("CARGO_BIN_EXE_embedded")).arg(folder.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    for end in ["Confirmed", "Confirmed", "Cancelled"] {
        let said = order();
        assert!(said.starts_with("order/") && said.ends_with(&format!(" is {end}\n")), "{said}");
    }
    let count = |file: &str, sql: &str| {
        let database = rusqlite::Connection::open(folder.path().join(file)).unwrap();
        database.query_row(sql, [], |found| found.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count("payment.db", "SELECT available FROM accounts WHERE name = 'shop'"), 2 * 1999);
    assert_eq!(count("payment.db", "SELECT sum(frozen) FROM accounts"), 0);
    assert_eq!(count("inventory.db", "SELECT sold FROM stock WHERE item = 'book'"), 2);
    assert_eq!(count("inventory.db", "SELECT available + reserved FROM stock WHERE item = 'book'"), 8);
}
