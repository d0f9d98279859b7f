//! From what a project asks for to a plan, or to all the reasons why there is none.

mod wishes;

use std::collections::BTreeSet;

use stagecraft_api::run::RunProject;

use super::error::{Place, ProviderError, Reason, Unmet};
use super::plan::{Feature, Met, Operation, Plan, Quality};
use super::sense::{Sense, Thing, read};
use wishes::Wishes;

/// A text of the project with what it asks for.
struct Text<'project> {
    place: Place,
    words: &'project str,
    sense: Sense,
}

/// Says what is to be made for `project`. Every text must be understood to its last word: what is built by half a
/// requirement only looks as if it met it.
pub fn understand(project: &RunProject) -> Result<Plan, ProviderError> {
    let texts = texts(project);
    let mut unmet: Vec<Unmet> = texts
        .iter()
        .filter_map(|text| Some(text.unmet(own_reason(&text.sense)?)))
        .collect();
    if unmet.is_empty() {
        unmet = not_a_calculator(project, &texts);
    }
    if !unmet.is_empty() {
        return Err(ProviderError(unmet));
    }
    let mut decisions = Vec::new();
    let operations = operations(&texts, &mut decisions)?;
    let features = features(&texts, &mut decisions)?;
    decisions.extend(
        operations
            .iter()
            .filter_map(|one| one.decision())
            .map(str::to_owned),
    );
    if operations.iter().any(|one| one.example().right.is_some()) {
        decisions.push("operations are done from left to right, without precedence".to_owned());
    }
    decisions.extend(
        features
            .iter()
            .filter_map(|one| one.decision())
            .map(str::to_owned),
    );
    let qualities: BTreeSet<Quality> = texts.iter().flat_map(Text::qualities).collect();
    decisions.extend(
        qualities
            .into_iter()
            .map(|quality| format!("met by every calculator: {}", quality.met())),
    );
    let requirements = texts
        .iter()
        .filter_map(|text| match text.place {
            Place::Description => None,
            Place::Requirement(number) => Some(Met {
                number,
                how: how(&text.sense, &operations),
            }),
        })
        .collect();
    Ok(Plan {
        name: project.name.clone(),
        operations,
        features,
        decisions,
        requirements,
    })
}

fn texts(project: &RunProject) -> Vec<Text<'_>> {
    let description = Some(project.description.as_str()).filter(|text| !text.trim().is_empty());
    let requirements = (1..).map(Place::Requirement).zip(&project.requirements);
    description
        .map(|text| (Place::Description, text))
        .into_iter()
        .chain(requirements.map(|(place, text)| (place, text.as_str())))
        .map(|(place, text)| Text {
            place,
            words: text,
            sense: read(text),
        })
        .collect()
}

impl Text<'_> {
    fn unmet(&self, reason: Reason) -> Unmet {
        Unmet {
            place: self.place,
            text: self.words.to_owned(),
            reason,
        }
    }

    fn qualities(&self) -> impl Iterator<Item = Quality> {
        self.sense.asks.iter().filter_map(|(thing, _)| match thing {
            Thing::Quality(quality) => Some(*quality),
            _ => None,
        })
    }
}

/// Why a text cannot be met, whatever the others say.
fn own_reason(sense: &Sense) -> Option<Reason> {
    if !sense.unknown.is_empty() {
        return Some(Reason::Unknown(sense.unknown.clone()));
    }
    if let Some(word) = &sense.unclear {
        return Some(Reason::Unclear(word.clone()));
    }
    let (wanted, unwanted): (Vec<_>, Vec<_>) = sense.asks.iter().partition(|(_, wanted)| *wanted);
    for (thing, wanted) in &sense.asks {
        if let Thing::Quality(quality) = thing {
            if *wanted && *quality == Quality::Absent {
                return Some(Reason::Inherent("what this names is never part of one"));
            }
            if !*wanted && !quality.may_be_negated() {
                return Some(Reason::Inherent(quality.met()));
            }
        }
    }
    let both = unwanted
        .iter()
        .any(|(thing, _)| *thing != Thing::Four && wanted.contains(&(*thing, true)));
    if both {
        return Some(Reason::Unclear("not".to_owned()));
    }
    (sense.asks.is_empty() && !sense.calculator).then_some(Reason::Nothing)
}

/// What is asked for could be of any page, unless something names a calculator or what one computes.
fn not_a_calculator(project: &RunProject, texts: &[Text<'_>]) -> Vec<Unmet> {
    let arithmetic = |(thing, wanted): &(Thing, bool)| {
        let computes = matches!(
            thing,
            Thing::Operation(_) | Thing::Four | Thing::Quality(Quality::ByZero)
        );
        *wanted && computes
    };
    let named = project.name.to_lowercase().contains("calc")
        || texts
            .iter()
            .any(|text| text.sense.calculator || text.sense.asks.iter().any(arithmetic));
    if named {
        return Vec::new();
    }
    texts
        .iter()
        .map(|text| text.unmet(Reason::NoCalculator))
        .collect()
}

fn operations(texts: &[Text<'_>], decisions: &mut Vec<String>) -> Result<BTreeSet<Operation>, ProviderError> {
    let senses = || texts.iter().map(|text| (text.place, &text.sense));
    let mut wishes = Wishes::of(senses(), |thing| match thing {
        Thing::Operation(operation) => vec![operation],
        _ => Vec::new(),
    });
    // A whole set gives way to an operation that is excluded by name.
    for (place, sense) in senses() {
        if sense.asks.contains(&(Thing::Four, false)) {
            for operation in Operation::FOUR {
                wishes.exclude(operation, place);
            }
        }
    }
    for (place, sense) in senses().filter(|(_, sense)| sense.only) {
        let own: BTreeSet<Operation> = set_of(sense);
        for operation in Operation::ALL.into_iter().filter(|one| !own.contains(one)) {
            wishes.exclude(operation, place);
        }
    }
    let (mut chosen, conflicts) = wishes.settle(Operation::name, decisions);
    if !conflicts.is_empty() {
        return Err(contradictions(texts, conflicts));
    }
    let excluded = |operation: &Operation| wishes.excluded(*operation);
    let asks = |thing: Thing| senses().any(|(_, sense)| sense.asks.contains(&(thing, true)));
    if asks(Thing::Four) {
        chosen.extend(Operation::FOUR.into_iter().filter(|one| !excluded(one)));
    }
    if chosen.is_empty() {
        chosen.extend(Operation::FOUR.into_iter().filter(|one| !excluded(one)));
        decisions.push(format!("no operation is named, so it has {}", names(&chosen)));
    }
    if asks(Thing::Quality(Quality::ByZero)) && !excluded(&Operation::Divide) {
        chosen.insert(Operation::Divide);
    }
    if chosen.is_empty() {
        let unmet = texts
            .iter()
            .filter(|text| text.sense.only || text.sense.asks.iter().any(|(_, wanted)| !*wanted))
            .map(|text| text.unmet(Reason::NoOperation))
            .collect();
        return Err(ProviderError(unmet));
    }
    Ok(chosen)
}

fn features(texts: &[Text<'_>], decisions: &mut Vec<String>) -> Result<BTreeSet<Feature>, ProviderError> {
    let wishes = Wishes::of(
        texts.iter().map(|text| (text.place, &text.sense)),
        |thing| match thing {
            Thing::Feature(Feature::MemoryMinus) => vec![Feature::Memory, Feature::MemoryMinus],
            Thing::Feature(feature) => vec![feature],
            _ => Vec::new(),
        },
    );
    let (chosen, conflicts) = wishes.settle(Feature::name, decisions);
    if conflicts.is_empty() {
        Ok(chosen)
    } else {
        Err(contradictions(texts, conflicts))
    }
}

/// The operations that a text wants, sets among them.
fn set_of(sense: &Sense) -> BTreeSet<Operation> {
    let wanted = sense.asks.iter().filter(|(_, wanted)| *wanted);
    wanted
        .flat_map(|(thing, _)| match thing {
            Thing::Operation(operation) => vec![*operation],
            Thing::Four => Operation::FOUR.to_vec(),
            Thing::Feature(_) | Thing::Quality(_) => Vec::new(),
        })
        .collect()
}

fn contradictions(texts: &[Text<'_>], conflicts: Vec<(Place, Place, &'static str)>) -> ProviderError {
    let unmet = conflicts.into_iter().filter_map(|(place, other, subject)| {
        let text = texts.iter().find(|text| text.place == place)?;
        Some(text.unmet(Reason::Contradicts { other, subject }))
    });
    ProviderError(unmet.collect())
}

fn names(operations: &BTreeSet<Operation>) -> String {
    let names: Vec<&str> = operations.iter().map(|operation| operation.name()).collect();
    names.join(", ")
}

/// What a requirement was taken for.
fn how(sense: &Sense, operations: &BTreeSet<Operation>) -> String {
    let mut parts = Vec::new();
    let own: BTreeSet<Operation> = set_of(sense).intersection(operations).copied().collect();
    match own.len() {
        0 => {}
        1 => parts.push(format!("operation {}", names(&own))),
        _ => parts.push(format!("operations {}", names(&own))),
    }
    let mut said = BTreeSet::new();
    for (thing, wanted) in &sense.asks {
        let part = match (thing, wanted) {
            (Thing::Operation(_) | Thing::Four, true) => continue,
            (Thing::Operation(operation), false) => format!("no {}", operation.name()),
            (Thing::Four, false) => "none of the four operations".to_owned(),
            (Thing::Feature(feature), true) => format!("feature {}", feature.name()),
            (Thing::Feature(feature), false) => format!("no {}", feature.name()),
            (Thing::Quality(Quality::ByZero), _) if !operations.contains(&Operation::Divide) => {
                "nothing is divided, so nothing by zero".to_owned()
            }
            (Thing::Quality(quality), _) => quality.met().to_owned(),
        };
        if said.insert(part.clone()) {
            parts.push(part);
        }
    }
    if sense.only {
        parts.push("no other operation".to_owned());
    }
    if parts.is_empty() {
        parts.push("is a calculator".to_owned());
    }
    parts.join("; ")
}
