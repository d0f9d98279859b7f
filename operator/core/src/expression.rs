//! Expressions in CEL, the language of Kubernetes' own rules, over parameters and what earlier stages left behind. An expression
//! is checked when the Workflow is accepted, and evaluated when its stage is about to begin.
//!
//! Whoever may create a Workflow writes them, so their cost is bounded: no list is built in a loop, loops are not nested and short,
//! texts and their nesting are short, and so are patterns.

mod cost;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::parser::PrattParser;
use cel::{Context, Env};
use serde_json::{Map, Value, json};
use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use stagecraft_api::run::{INITIALIZE, Run, RunStage};
use stagecraft_api::status::{StageStatus, WorkflowStatus};

use crate::observation::Identity;
use crate::repair;

/// What expressions can name.
const VARIABLES: [&str; 5] = ["approval", "parameters", "repair", "stages", "workflow"];
/// Deepest nesting of an expression.
const DEPTH: usize = 48;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that can be evaluated.
#[derive(Debug)]
pub(crate) struct Expression {
    syntax: IdedExpr,
    /// Stages that it names.
    pub(crate) stages: BTreeSet<String>,
    /// Parameters that it names.
    pub(crate) parameters: BTreeSet<String>,
    /// Whether it goes through a list.
    loops: bool,
}

/// Reads an expression, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > limit::EXPRESSION_BYTES {
        return Err(format!(
            "an expression holds at most {} bytes: compute more of it in a stage",
            limit::EXPRESSION_BYTES
        ));
    }
    let parser = PrattParser::default().enable_optional_syntax(true);
    let syntax = parser.parse(text).map_err(|errors| {
        let first = errors
            .errors
            .first()
            .map_or_else(String::new, |error| error.msg.clone());
        format!("is not an expression in CEL: {}", truncate(&first, 200))
    })?;
    let mut found = Names::default();
    found.visit(&syntax, &mut Vec::new(), 0, false)?;
    Ok(Expression {
        syntax,
        stages: found.stages,
        parameters: found.parameters,
        loops: found.loops,
    })
}

/// What an expression is about: the fields that it names, found by walking through it.
#[derive(Default)]
struct Names {
    stages: BTreeSet<String>,
    parameters: BTreeSet<String>,
    loops: bool,
}

impl Names {
    fn visit(
        &mut self,
        node: &IdedExpr,
        bound: &mut Vec<String>,
        depth: usize,
        in_loop: bool,
    ) -> Result<(), String> {
        if depth > DEPTH {
            return Err(format!("is nested more than {DEPTH} deep: make it simpler"));
        }
        if let Some((variable, field)) = named_field(&node.expr)
            && !bound.iter().any(|name| name == variable)
        {
            self.note(variable, field);
        }
        let deeper = depth + 1;
        match &node.expr {
            Expr::Ident(name) if bound.contains(name) || VARIABLES.contains(&name.as_str()) => Ok(()),
            Expr::Ident(name) => Err(format!("names {name}; choose one of: {}", VARIABLES.join(", "))),
            Expr::Call(call) => {
                if call.func_name == "matches" {
                    cost::check_pattern(call.args.last().map(|pattern| &pattern.expr), in_loop)?;
                }
                for part in call.target.iter().map(|target| &**target).chain(&call.args) {
                    self.visit(part, bound, deeper, in_loop)?;
                }
                Ok(())
            }
            Expr::Select(select) => self.visit(&select.operand, bound, deeper, in_loop),
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.visit(element, bound, deeper, in_loop)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, bound, deeper, in_loop)?;
                    self.visit(&entry.value, bound, deeper, in_loop)
                }
                EntryExpr::StructField(field) => self.visit(&field.value, bound, deeper, in_loop),
            }),
            Expr::Comprehension(comprehension) => {
                if in_loop {
                    return Err("has a loop within a loop: compute that in a stage".to_owned());
                }
                if matches!(comprehension.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
                    return Err("uses map or filter, which build lists: use exists, all or exists_one, or compute it in a stage".to_owned());
                }
                self.loops = true;
                self.visit(&comprehension.iter_range, bound, deeper, in_loop)?;
                let before = bound.len();
                bound.push(comprehension.iter_var.clone());
                bound.push(comprehension.accu_var.clone());
                bound.extend(comprehension.iter_var2.clone());
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.visit(part, bound, deeper, true)?;
                }
                bound.truncate(before);
                Ok(())
            }
            Expr::Literal(_) => Ok(()),
            Expr::Struct(_) | Expr::Unspecified => {
                Err("makes a message, of which there are none here".to_owned())
            }
        }
    }

    fn note(&mut self, variable: &str, field: &str) {
        match variable {
            "stages" => self.stages.insert(field.to_owned()),
            "parameters" => self.parameters.insert(field.to_owned()),
            _ => false,
        };
    }
}

/// `stages.scaffold` and `stages['scaffold']`.
fn named_field(expr: &Expr) -> Option<(&str, &str)> {
    let (operand, field) = match expr {
        Expr::Select(select) => (&select.operand.expr, select.field.as_str()),
        Expr::Call(call) if matches!(call.func_name.as_str(), "_[_]" | "_[?_]" | "_?._") => {
            let [operand, index] = call.args.as_slice() else {
                return None;
            };
            let Expr::Literal(LiteralValue::String(field)) = &index.expr else {
                return None;
            };
            (&operand.expr, field.inner())
        }
        _ => return None,
    };
    match operand {
        Expr::Ident(name) => Some((name, field)),
        _ => None,
    }
}

/// Everything that expressions of one stage can see.
pub(crate) fn scope(identity: &Identity, run: &Run, stage: &RunStage, status: &WorkflowStatus) -> Value {
    let ended = |stage: &&StageStatus| stage.phase.is_terminal() && stage.name != INITIALIZE;
    let stages: Map<String, Value> = status
        .stages
        .iter()
        .filter(ended)
        .map(|stage| {
            let mut seen = json!({"phase": stage.phase, "outputs": stage.outputs});
            if let (Some(seen), Some(error)) = (seen.as_object_mut(), &stage.error) {
                seen.insert(
                    "error".to_owned(),
                    json!({"code": error.code, "message": error.message}),
                );
            }
            (stage.name.clone(), seen)
        })
        .collect();
    let ending = status.ending.as_ref().map_or("", |ending| ending.phase.as_str());
    let repair = match repair::task(stage, run, &status.stages) {
        Some(task) => json!(task),
        None => json!({"stage": "", "round": 0, "message": "", "findings": []}),
    };
    json!({
        "parameters": run.parameters,
        "repair": repair,
        "stages": stages,
        "workflow": {"name": identity.name, "namespace": identity.namespace, "ending": ending},
    })
}

impl Expression {
    /// What it comes to, or why it comes to nothing.
    pub(crate) fn evaluate(&self, scope: &Value) -> Result<Value, String> {
        if self.loops {
            cost::check_lengths(scope)?;
        }
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for variable in VARIABLES {
            let value = scope.get(variable).unwrap_or(&Value::Null);
            context.add_variable_from_value(variable, of_json(value));
        }
        let value = context
            .resolve(&self.syntax)
            .map_err(|error| truncate(&error.to_string(), 300))?;
        value.json().map_err(|error| truncate(&error.to_string(), 300))
    }
}

/// Whole numbers are ints, as in Kubernetes' rules, so that they compute with those that an expression has.
fn of_json(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(values) => values.iter().map(of_json).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), of_json(value)));
            fields.collect::<HashMap<_, _>>().into()
        }
    }
}

/// Whether a condition holds.
pub(crate) fn holds(text: &str, scope: &Value) -> Result<bool, String> {
    match parse(text)?.evaluate(scope)? {
        Value::Bool(holds) => Ok(holds),
        other => Err(format!(
            "comes to {}, which is neither true nor false",
            truncate(&other.to_string(), 80)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Value {
        json!({
            "parameters": {"deploy": true, "share": 80, "names": ["a", "b"]},
            "stages": {"check-it": {"phase": "Succeeded", "outputs": {"covered": 80.5, "tests": 3, "name": "x"}}},
            "workflow": {"name": "flow", "namespace": "here", "ending": ""},
        })
    }

    fn value(text: &str) -> Result<Value, String> {
        parse(text)?.evaluate(&scene())
    }

    #[test]
    fn values_of_parameters_and_stages_are_computed_with() {
        for (text, expected) in [
            ("parameters.deploy", json!(true)),
            (
                "stages['check-it'].outputs.covered > parameters.share",
                json!(true),
            ),
            ("stages['check-it'].outputs.covered >= 81", json!(false)),
            (
                "stages['check-it'].outputs.tests == 3 && workflow.name == 'flow'",
                json!(true),
            ),
            ("has(stages['check-it'].outputs.absent)", json!(false)),
            ("parameters.names.exists(name, name == 'b')", json!(true)),
            ("'b' in parameters.names ? 'yes' : 'no'", json!("yes")),
            (
                "stages['check-it'].outputs",
                json!({"covered": 80.5, "tests": 3, "name": "x"}),
            ),
            ("size(parameters.names) + 1", json!(3)),
            ("workflow.name + '-' + string(parameters.share)", json!("flow-80")),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_an_expression_names_is_known_before_it_is_evaluated() {
        let found =
            parse("stages.a.outputs.x == parameters['y'] || parameters.names.all(stages, stages.b == 1)")
                .unwrap();
        assert_eq!(found.stages, BTreeSet::from(["a".to_owned()]));
        assert_eq!(
            found.parameters,
            BTreeSet::from(["y".to_owned(), "names".to_owned()])
        );
    }

    #[test]
    fn what_cannot_be_read_or_would_cost_too_much_says_why() {
        for (text, part) in [
            ("parameters.", "is not an expression"),
            ("", "is not an expression"),
            ("secrets.x", "names secrets; choose one of"),
            ("parameters.names.map(x, x)", "map or filter"),
            ("parameters.names.filter(x, x == 'a')", "map or filter"),
            (
                "parameters.names.all(x, parameters.names.exists(y, x == y))",
                "loop within a loop",
            ),
            ("Message{a: 1}", "message"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in [
            vec!["1"; 300].join("+"),
            vec!["true"; 100].join("?1:"),
            "[".repeat(500),
            format!("parameters{}", ".a".repeat(400)),
            "x".repeat(5_000),
        ] {
            assert!(parse(&text).is_err(), "{}", &text[..20]);
        }
        for text in [
            "(".repeat(500) + "1" + &")".repeat(500),
            "!".repeat(900) + "true",
            "-".repeat(900) + "1",
            vec!["true"; 170].join("&&"),
        ] {
            // Whatever the answer, there is one.
            let _ = value(&text);
        }
    }

    #[test]
    fn what_comes_to_nothing_says_why() {
        for text in [
            "stages.absent.outputs.x == 1",
            "1 / 0 == 1",
            "parameters.deploy + 1 == 2",
            "9223372036854775807 + 1 > 0",
        ] {
            assert!(
                holds(text, &scene()).is_err(),
                "{text}: {:?}",
                holds(text, &scene())
            );
        }
        let error = holds("parameters.share", &scene()).expect_err("a number is no answer");
        assert!(error.contains("80"), "{error}");
    }
}
