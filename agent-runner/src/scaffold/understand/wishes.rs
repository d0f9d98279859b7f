//! Who wants what, and who does not.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::Place;
use super::super::sense::{Sense, Thing};

/// Wanted and excluded things, each with the first text that says so.
pub struct Wishes<T> {
    wanted: BTreeMap<T, Place>,
    excluded: BTreeMap<T, Place>,
}

impl<T: Copy + Ord> Wishes<T> {
    /// The wishes in texts. `chosen` says what a thing stands for; of an excluded thing the last counts alone.
    pub fn of<'sense>(
        senses: impl Iterator<Item = (Place, &'sense Sense)>,
        chosen: impl Fn(Thing) -> Vec<T>,
    ) -> Self {
        let mut wishes = Self {
            wanted: BTreeMap::new(),
            excluded: BTreeMap::new(),
        };
        for (place, sense) in senses {
            for (thing, wanted) in &sense.asks {
                let things = chosen(*thing);
                if *wanted {
                    for one in things {
                        wishes.want(one, place);
                    }
                } else if let Some(one) = things.last() {
                    wishes.exclude(*one, place);
                }
            }
        }
        wishes
    }

    /// A requirement weighs more than the description, so it is the one that is kept.
    fn want(&mut self, thing: T, place: Place) {
        let by = self.wanted.entry(thing).or_insert(place);
        if *by == Place::Description {
            *by = place;
        }
    }

    pub fn exclude(&mut self, thing: T, place: Place) {
        let by = self.excluded.entry(thing).or_insert(place);
        if *by == Place::Description {
            *by = place;
        }
    }

    pub fn excluded(&self, thing: T) -> bool {
        self.excluded.contains_key(&thing)
    }

    /// What is left when requirements overrule the description; and where two requirements contradict each other: the one
    /// that excludes, the one that wants, and what.
    pub fn settle(
        &self,
        name: impl Fn(T) -> &'static str,
        decisions: &mut Vec<String>,
    ) -> (BTreeSet<T>, Vec<(Place, Place, &'static str)>) {
        let mut left = BTreeSet::new();
        let mut conflicts = Vec::new();
        for (thing, by) in &self.wanted {
            let subject = name(*thing);
            match (by, self.excluded.get(thing)) {
                (_, None) => {
                    left.insert(*thing);
                }
                (Place::Description, Some(Place::Description)) => {
                    conflicts.push((Place::Description, Place::Description, subject));
                }
                (Place::Description, Some(other)) => {
                    decisions.push(format!("without {subject}: {other} overrules the description"));
                }
                (place, Some(Place::Description)) => {
                    left.insert(*thing);
                    decisions.push(format!("with {subject}: {place} overrules the description"));
                }
                (place, Some(other)) => conflicts.push((*other, *place, subject)),
            }
        }
        (left, conflicts)
    }
}
