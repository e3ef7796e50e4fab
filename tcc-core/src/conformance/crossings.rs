//! P1, P3 and P4: confirm against cancel, cancel against try.

use super::answers::LONG_AGO;
use super::play::{Body, Key, Play, Played, broken};
use crate::{Operation, Timestamp};
use Operation::{Cancel, Confirm, Try};

pub(super) async fn a_cancelled_branch_is_not_confirmed(play: &mut Play<'_>) -> Played {
    ended_otherwise(play, Cancel, Confirm).await
}

pub(super) async fn a_confirmed_branch_is_not_cancelled(play: &mut Play<'_>) -> Played {
    ended_otherwise(play, Confirm, Cancel).await
}

async fn ended_otherwise(play: &mut Play<'_>, end: Operation, other: Operation) -> Played {
    let key = play.branch();
    play.reserve(&key).await?;
    play.end(&key, end).await?;
    let before = play.effect().await?;
    for _ in 0..2 {
        let said = play.ask(&key, other, Body::Good).await?;
        if said.is_done() {
            return broken(format!("after the {end}, the {other} was called done too"));
        }
        if !said.is_alarm() {
            return broken(format!(
                "after the {end}, the {other} was answered {said}: only 409 is an alarm for it"
            ));
        }
    }
    play.came_to(&[&[]], before.as_ref(), other).await?;
    let said = play.ask(&key, end, Body::Good).await?;
    if said.is_done() {
        Ok(())
    } else {
        broken(format!("after that, a repeat of the {end} was answered {said}"))
    }
}

pub(super) async fn confirm_and_cancel_at_once_exclude_each_other(play: &mut Play<'_>) -> Played {
    let mut round = 0;
    while let Some(key) = play.rounds(round) {
        play.reserve(&key).await?;
        let before = play.effect().await?;
        // Each is sent first in every other round.
        let operations = if round % 2 == 0 { [Confirm, Cancel] } else { [Cancel, Confirm] };
        let said = play.at_once(&key, &operations).await?;
        let [one, other] = &*said else { return Ok(()) };
        let end = match (one.is_done(), other.is_done()) {
            (true, true) => return broken("both were called done"),
            (false, false) => return broken("neither was called done, and the branch was tried"),
            (true, false) => operations[0],
            (false, true) => operations[1],
        };
        if !one.is_alarm() && !other.is_alarm() {
            return broken("the one that came too late was not answered 409, which is an alarm");
        }
        play.came_to(&[&[end]], before.as_ref(), end).await?;
        round += 1;
    }
    Ok(())
}

pub(super) async fn an_empty_cancel_is_done_and_does_nothing(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    let before = play.effect().await?;
    for _ in 0..2 {
        let said = play.ask(&key, Cancel, Body::Good).await?;
        if !said.is_done() {
            return broken(format!(
                "a cancel whose try never came was answered {said}: it would be called for ever"
            ));
        }
    }
    play.came_to(&[&[]], before.as_ref(), Cancel).await
}

pub(super) async fn a_refused_try_is_cancelled_and_nothing_given_back(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    play.refusal(&key).await?;
    let before = play.effect().await?;
    for _ in 0..2 {
        let said = play.ask(&key, Cancel, Body::Refused).await?;
        if !said.is_done() {
            return broken(format!(
                "the cancel of a refused branch was answered {said}: it would be called for ever"
            ));
        }
    }
    play.came_to(&[&[]], before.as_ref(), Cancel).await
}

pub(super) async fn a_late_try_is_refused(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    play.end(&key, Cancel).await?;
    late_try(play, &key).await
}

pub(super) async fn a_try_after_its_cancel_is_refused(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    play.reserve(&key).await?;
    play.end(&key, Cancel).await?;
    late_try(play, &key).await
}

async fn late_try(play: &mut Play<'_>, key: &Key) -> Played {
    let before = play.effect().await?;
    for _ in 0..2 {
        let said = play.ask(key, Try, Body::Good).await?;
        if said.is_done() {
            return broken(
                "the try after the cancel was accepted: nobody will ever give back what it reserved",
            );
        }
        if !said.is_refused() {
            return broken(format!("the try after the cancel was answered {said}"));
        }
    }
    play.came_to(&[&[]], before.as_ref(), Try).await?;
    let said = play.ask(key, Cancel, Body::Good).await?;
    if said.is_done() {
        Ok(())
    } else {
        broken(format!("after that, a repeat of the cancel was answered {said}"))
    }
}

pub(super) async fn try_and_cancel_at_once_leave_nothing(play: &mut Play<'_>) -> Played {
    let mut round = 0;
    while let Some(key) = play.rounds(round) {
        let before = play.effect().await?;
        let operations = if round % 2 == 0 { [Try, Cancel] } else { [Cancel, Try] };
        let said = play.at_once(&key, &operations).await?;
        let [one, other] = &*said else { return Ok(()) };
        let (try_, cancel) = if round % 2 == 0 { (one, other) } else { (other, one) };
        if !cancel.is_done() {
            return broken(format!("the cancel was answered {cancel}"));
        }
        if !try_.is_done() && !try_.is_refused() {
            return broken(format!("the try was answered {try_}"));
        }
        // Accepted and then cancelled, or barred: not accepted after the cancel.
        play.came_to(&[&[], &[Try, Cancel]], before.as_ref(), Try).await?;
        let late = play.ask(&key, Try, Body::Good).await?;
        if !late.is_refused() {
            return broken(format!("both are over, and a repeat of the try was answered {late}"));
        }
        let confirm = play.ask(&key, Confirm, Body::Good).await?;
        if !confirm.is_alarm() {
            return broken(format!("both are over, and a confirm was answered {confirm}"));
        }
        round += 1;
    }
    Ok(())
}

pub(super) async fn a_try_of_what_was_settled_is_refused(play: &mut Play<'_>) -> Played {
    // Far from any mark that is in use, so that a clean-up that goes by it deletes nothing.
    let settled = Some(Timestamp::from_millis(LONG_AGO.as_millis() + 1));
    let key = Key { begun: LONG_AGO, settled, ..play.branch() };
    let before = play.effect().await?;
    for _ in 0..2 {
        let said = play.ask(&key, Try, Body::Good).await?;
        if !said.is_refused() {
            play.clear(&key).await;
            return broken(format!(
                "a try begun before its Tcc-Settled, of which there is no row, was answered {said}"
            ));
        }
    }
    play.came_to(&[&[]], before.as_ref(), Try).await
}
