//! A saga from its first step to the last compensation.

use std::process::Command;

#[test]
fn a_trip_is_booked_in_order_or_given_back_in_reverse() {
    let run = Command::new(env!("CARGO_BIN_EXE_trip")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let expected = "\
A trip; of cars there are 1.
  book flight: done
  book hotel: done
  book car: done
  Confirmed
  left: 8 flight, 8 hotel, 0 car

A trip; of cars there are 0.
  book flight: done
  book hotel: done
  book car: refused: booked out
  give back car: done
  give back hotel: done
  give back flight: done
  Cancelled: branch car refused: booked out
  left: 9 flight, 9 hotel, 0 car

";
    assert_eq!(said, expected);
}
