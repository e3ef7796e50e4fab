//! What piles up.

use crate::{bench, number};

#[test]
fn every_burden_is_measured_beside_none() {
    let lines = bench(&["--growth", "--waiting=300", "--finished=20000", "--seconds=0.5", "--rounds=1"]);
    for (burden, sizes) in [
        ("waiting on a dead participant", &[0, 3, 30, 300][..]),
        ("finished", &[0, 200, 2000, 20_000]),
        ("finished, being purged", &[20_000]),
        ("waiting on one that hangs", &[0, 512]),
    ] {
        let cases: Vec<_> = lines.iter().filter(|line| line["growth"] == burden).collect();
        let found: Vec<i64> = cases.iter().filter_map(|case| case["size"].as_i64()).collect();
        assert_eq!(found, sizes, "{burden}");
        for case in cases {
            assert_eq!(number(case, "failed"), 0.0, "{case:#}");
            assert!(number(case, "start_ms") > 0.0 && number(case, "p99_ms") > 0.0, "{case:#}");
            assert!(number(case, "per_second") > 0.0 && number(case, "per_second_ratio") > 0.0, "{case:#}");
            assert_eq!(number(case, "purged") > 0.0, burden == "finished, being purged", "{case:#}");
        }
    }
    let looked = lines.iter().filter(|line| line["looks"].is_object()).count();
    assert_eq!(looked, 8, "the store is looked into where a log was made");
}
