//! The suite for participants: it lets a good one pass, and catches each that is broken on purpose.

mod defective;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tcc_core::Timestamp;
use tcc_core::conformance::{self, ACCEPTED, CASES, CONFIRMED, Evidence, Promise, Report, Setup, Verdict};

use crate::support::golden;

use defective::{Account, Defect};

fn setup() -> Setup {
    let json = |text: &str| Some(Arc::from(RawValue::from_string(text.to_owned()).unwrap()));
    Setup {
        at: "local:account".parse().unwrap(),
        run: 7,
        now: Timestamp::from_millis(1_000_000),
        payload: json(r#"{"cents": 10}"#),
        refused: json(r#"{"cents": 5000}"#),
        headers: Vec::new(),
        timeout: Duration::from_secs(10),
    }
}

fn run(subject: &Account, setup: &Setup) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut told = 0;
    let report = runtime.block_on(conformance::run(subject, setup, &mut |_| told += 1));
    assert_eq!((told, report.checks.len()), (CASES.len(), CASES.len()), "each is told as soon as it is over");
    report
}

#[test]
fn a_good_participant_passes_and_nothing_is_left_unseen() {
    let account = Account::new(None, true);
    let report = run(&account, &setup());
    assert!(report.holds() && report.is_complete(), "{report}");
    let [reserved, spent] = account.books();
    assert_eq!(reserved, 0, "nothing stays reserved");
    assert!((1..=ACCEPTED).contains(&account.accepted()), "{} tries were accepted", account.accepted());
    assert!((1..=10 * i64::from(CONFIRMED)).contains(&spent), "{spent} cents were spent");
}

#[test]
fn without_an_effect_the_answers_speak_and_the_report_says_so() {
    let report = run(&Account::new(None, false), &setup());
    assert!(report.holds() && !report.is_complete(), "{report}");
    let by_answers =
        report.checks.iter().filter(|check| check.verdict == Verdict::Kept(Evidence::Answers)).count();
    assert!(by_answers > CASES.len() / 2, "{report}");
    assert!(
        report.to_string().contains(&format!("{by_answers} of those kept were seen by their answers alone"))
    );
}

#[test]
fn what_was_not_given_is_not_tested_and_the_report_says_so() {
    let without = Setup { payload: None, refused: None, ..setup() };
    let report = run(&Account::new(Some(Defect::AcceptsTheUnreadable), true), &without);
    let untested: Vec<_> =
        report.checks.iter().filter(|check| matches!(check.verdict, Verdict::NotTested(_))).collect();
    // Without a payload this one cannot do anything, so that the first check stops all others.
    assert_eq!(untested.len(), CASES.len() - 2, "{report}");
    let without = Setup { refused: None, ..setup() };
    let report = run(&Account::new(None, true), &without);
    assert!(report.holds() && !report.is_complete(), "{report}");
    let untested = report.checks.iter().filter(|check| matches!(check.verdict, Verdict::NotTested(_)));
    assert_eq!(untested.count(), 5, "{report}");
}

/// What is wrong, and the check that has to find it, by answers alone or with an effect only.
#[rustfmt::skip]
const TABLE: [(Defect, Promise, &str, Evidence); 35] = {
    use Defect::*;
    use Evidence::{All, Answers};
    use Promise::{P1, P2, P3, P4, P5, P6};
    [
        (HasNoGuard, P6, "a_confirm_without_its_try_is_an_alarm", Answers),
        (ConfirmsTheCancelled, P1, "a_cancelled_branch_is_not_confirmed", Answers),
        (CancelsTheConfirmed, P1, "a_confirmed_branch_is_not_cancelled", Answers),
        (ConfirmAndCancelRace, P1, "confirm_and_cancel_at_once_exclude_each_other", Answers),
        (ReservesAgain, P2, "a_repeated_try_has_no_second_effect", All),
        (FailsOnRepeatedTry, P2, "a_repeated_try_has_no_second_effect", Answers),
        (ForgetsItsReply, P2, "a_repeated_try_has_no_second_effect", Answers),
        (ConfirmsAgain, P2, "a_repeated_confirm_has_no_second_effect", All),
        (GivesBackAgain, P2, "a_repeated_cancel_has_no_second_effect", All),
        (TriesRace, P2, "tries_at_once_have_one_effect", Answers),
        (ConfirmsRace, P2, "confirms_at_once_have_one_effect", All),
        (CancelsRace, P2, "cancels_at_once_have_one_effect", All),
        (GoesByTheAttempt, P2, "the_attempt_is_for_logs_alone", Answers),
        (IsKeyedByGid, P2, "branches_are_told_apart", Answers),
        (IsKeyedByBranch, P2, "branches_are_told_apart", Answers),
        (IgnoresCase, P2, "branches_are_told_apart", Answers),
        (JoinsItsKey, P2, "branches_are_told_apart", Answers),
        (RefusesAfterConfirm, P2, "an_accepted_try_stays_accepted", Answers),
        (ForgetsRefusals, P2, "a_refusal_stays_a_refusal", Answers),
        (EmptyCancelIsAnError, P3, "an_empty_cancel_is_done_and_does_nothing", Answers),
        (EmptyCancelGivesBack, P3, "an_empty_cancel_is_done_and_does_nothing", All),
        (RefusedCancelGivesBack, P3, "a_refused_try_is_cancelled_and_nothing_given_back", All),
        (EmptyCancelLeavesNoRow, P4, "a_late_try_is_refused", Answers),
        (CancelDeletesTheRow, P4, "a_try_after_its_cancel_is_refused", Answers),
        (TryAndCancelRace, P4, "try_and_cancel_at_once_leave_nothing", Answers),
        (IgnoresSettled, P4, "a_try_of_what_was_settled_is_refused", Answers),
        (RefusalKeepsWhatItWrote, P5, "a_refused_try_leaves_nothing", All),
        (RowMovesBeforeTheWork, P5, "what_cannot_be_read_is_not_done", All),
        (ConfirmsTheUntried, P6, "a_confirm_without_its_try_is_an_alarm", Answers),
        (ConfirmsTheRefused, P6, "a_confirm_of_a_refused_try_is_an_alarm", Answers),
        (AlarmsAreFaults, P6, "a_confirm_without_its_try_is_an_alarm", Answers),
        (AcceptsTheUnreadable, Promise::Answers, "an_unreadable_try_is_refused", Answers),
        (CallsTheUnreadableAFault, Promise::Answers, "an_unreadable_try_is_refused", Answers),
        (MindsUnknownHeaders, Promise::Answers, "headers_that_nobody_knows_are_ignored", Answers),
        (RefusesWithoutACode, Promise::Answers, "a_refusal_is_told_by_its_code", Answers),
    ]
};

#[test]
fn each_promise_that_is_broken_on_purpose_is_named() {
    let mut transcript = String::new();
    for (defect, promise, name, by) in TABLE {
        let [seen, answered] = [true, false].map(|shown| run(&Account::new(Some(defect), shown), &setup()));
        let named = |report: &Report| report.broken().any(|c| (c.name, c.promise) == (name, promise));
        assert!(!seen.holds() && named(&seen), "{defect:?} with an effect:\n{seen}");
        assert_eq!(named(&answered), by == Evidence::Answers, "{defect:?} by its answers:\n{answered}");
        writeln!(transcript, "{defect:?}").unwrap();
        for check in seen.broken() {
            writeln!(transcript, "    {} {}", check.promise.as_str(), check.name).unwrap();
        }
    }
    golden("conformance.txt", &transcript);
}

#[test]
fn every_check_catches_somebody() {
    let caught = |name: &str| TABLE.iter().any(|(.., by, _)| *by == name);
    let basis = ["a_try_and_its_confirm_are_done", "a_try_and_its_cancel_are_done"];
    for case in CASES {
        assert!(caught(case.name) || basis.contains(&case.name), "{} catches nobody", case.name);
    }
}

#[test]
fn who_never_answers_is_unclear_and_not_broken() {
    let report = run(&Account::new(Some(Defect::NeverAnswers), false), &setup());
    assert!(!report.holds());
    assert_eq!(report.broken().count(), 0, "{report}");
    assert!(
        matches!(&report.checks[0].verdict, Verdict::Unclear(why) if why.contains("timed-out")),
        "{report}"
    );
    assert!(matches!(&report.checks[2].verdict, Verdict::NotTested(_)), "{report}");
}

#[test]
fn a_broken_check_says_what_was_done_what_is_wrong_and_how_to_mend_it() {
    let report = run(&Account::new(Some(Defect::EmptyCancelLeavesNoRow), true), &setup());
    let check = report.broken().find(|check| check.name == "a_late_try_is_refused").unwrap();
    let text = check.to_string();
    for words in
        ["BROKEN", "P4", "a late try is refused", "cancel → 200, try → 200", "nobody will ever give back"]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(text.ends_with(check.mend), "{text}");
}
