//! That the list does not rot: every fault still fits where it goes.

use std::collections::BTreeSet;
use std::fs;

use crate::fault;
use crate::scratch::workspace;

#[test]
fn every_fault_fits_its_file_in_one_place() {
    let mut rotten = Vec::new();
    for fault in fault::all() {
        assert_ne!(fault.was, fault.is, "{}", fault.name);
        let text = fs::read_to_string(workspace().join(fault.file)).unwrap_or_default();
        let places = text.matches(&fault.was).count();
        if places != 1 {
            rotten.push(format!("{}: {places} places in {}", fault.name, fault.file));
        }
    }
    assert!(rotten.is_empty(), "no longer as the code is:\n{}", rotten.join("\n"));
}

#[test]
fn there_are_many_faults_each_with_a_name_of_its_own() {
    let faults = fault::all();
    let names: BTreeSet<&str> = faults.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), faults.len(), "a name is taken twice");
    assert!(faults.len() >= 20, "{} faults", faults.len());
    for part in ["tcc-core/", "tcc-server/", "tcc-client/"] {
        assert!(faults.iter().filter(|fault| fault.file.starts_with(part)).count() >= 5, "{part}");
    }
}
