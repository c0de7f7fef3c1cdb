//! Expressions (`${{ … }}`) and optional parts (`$[[ … ]]`) as they stand in
//! text. Parses them; what they refer to is resolved elsewhere.

use crate::diagnostic::suggest::nearest;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it stands.
    Text(String),
    /// An expression, with its number in the text, from 0.
    Expression(Expression, usize),
    /// `$[[ … ]]`.
    Optional(Vec<Piece>),
}

/// What stands inside `${{ }}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expression {
    /// `parent.inputs.X`.
    ParentInput(String),
    /// `parent.outputs.X`.
    ParentOutput(String),
    /// `parent.jobs.J.outputs.X`, or `jobs.J.outputs.X` in older files.
    JobOutput(String, String),
    /// `inputs.X`.
    Input(String),
    /// `outputs.X`.
    Output(String),
    /// `search_space.X`.
    SearchSpace(String),
    /// `name`: the run's.
    Name,
    /// `output_name`.
    OutputName,
    /// `default_datastore`.
    DefaultDatastore,
    /// Anything else, as it stands.
    Other(String),
}

/// A text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// `${{` without `}}`; the number of the expression.
    Unclosed(usize),
    /// `$[[` without `]]`; the number of the `$[[`.
    UnclosedOptional(usize),
    /// `$[[` inside `$[[`; the number of the inner one.
    NestedOptional(usize),
}

/// Splits `text` into its pieces.
///
/// # Errors
/// Where a bracket that opens an expression or an optional part is not closed.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece>, Malformed> {
    let mut out = Vec::new();
    let mut count = 0;
    let mut rest = text;
    let mut parts = 0;
    while let Some(at) = rest.find("$[[") {
        expressions(&rest[..at], &mut count, &mut out)?;
        let body = &rest[at + 3..];
        let end = optional_end(body, parts)?;
        parts += 1;
        let mut inner = Vec::new();
        expressions(&body[..end], &mut count, &mut inner)?;
        out.push(Piece::Optional(inner));
        rest = &body[end + 2..];
    }
    expressions(rest, &mut count, &mut out)?;
    Ok(out)
}

fn optional_end(body: &str, part: usize) -> Result<usize, Malformed> {
    let end = body.find("]]").ok_or(Malformed::UnclosedOptional(part))?;
    if body[..end].contains("$[[") {
        Err(Malformed::NestedOptional(part + 1))
    } else {
        Ok(end)
    }
}

fn expressions(text: &str, count: &mut usize, out: &mut Vec<Piece>) -> Result<(), Malformed> {
    let mut rest = text;
    while let Some(at) = rest.find("${{") {
        let end = rest[at..].find("}}").ok_or(Malformed::Unclosed(*count))? + at;
        if at > 0 {
            out.push(Piece::Text(rest[..at].to_owned()));
        }
        out.push(Piece::Expression(expression(&rest[at + 3..end]), *count));
        *count += 1;
        rest = &rest[end + 2..];
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest.to_owned()));
    }
    Ok(())
}

fn expression(inner: &str) -> Expression {
    let inner = inner.trim();
    let parts: Vec<&str> = inner.split('.').map(str::trim).collect();
    let name = |text: &str| text.to_owned();
    match parts.as_slice() {
        ["parent", "inputs", x] => Expression::ParentInput(name(x)),
        ["parent", "outputs", x] => Expression::ParentOutput(name(x)),
        ["parent", "jobs", job, "outputs", x] | ["jobs", job, "outputs", x] => {
            Expression::JobOutput(name(job), name(x))
        }
        ["inputs", x] => Expression::Input(name(x)),
        ["outputs", x] => Expression::Output(name(x)),
        ["search_space", x] => Expression::SearchSpace(name(x)),
        ["name"] => Expression::Name,
        ["output_name"] => Expression::OutputName,
        ["default_datastore"] => Expression::DefaultDatastore,
        _ => Expression::Other(inner.to_owned()),
    }
}

/// The expression that `text` is, where it is nothing else.
///
/// # Errors
/// As [`pieces`].
pub(crate) fn whole(text: &str) -> Result<Option<Expression>, Malformed> {
    let text = text.trim();
    if !text.starts_with("${{") {
        return Ok(None);
    }
    let mut count = 0;
    let mut out = Vec::new();
    expressions(text, &mut count, &mut out)?;
    Ok(match out.as_slice() {
        [Piece::Expression(expression, _)] => Some(expression.clone()),
        _ => None,
    })
}

/// What an expression that is none was most likely meant to be: `parent.input.x`,
/// `steps.a.outputs.o`, `a.outputs.o`.
pub(crate) fn meant(inner: &str) -> Option<String> {
    let parts: Vec<&str> = inner.split('.').map(str::trim).collect();
    let is = |text: &str, word: &'static str| nearest(text, [word]).is_some();
    let known = |text: &str| {
        ["inputs", "outputs"]
            .into_iter()
            .find(|word| is(text, word))
    };
    let named = |text: &str| !text.is_empty() && text.len() <= 64;
    let meant = match parts.as_slice() {
        [parent, jobs, step, outputs, name]
            if is(parent, "parent")
                && (is(jobs, "jobs") || is(jobs, "steps"))
                && is(outputs, "outputs") =>
        {
            named(step).then(|| format!("parent.jobs.{step}.outputs.{name}"))?
        }
        [jobs, step, outputs, name]
            if (is(jobs, "jobs") || is(jobs, "steps") || is(jobs, "parent"))
                && is(outputs, "outputs") =>
        {
            format!("parent.jobs.{step}.outputs.{name}")
        }
        [parent, kind, name] if is(parent, "parent") || is(parent, "pipeline") => {
            format!("parent.{}.{name}", known(kind)?)
        }
        [step, outputs, name] if is(outputs, "outputs") => {
            format!("parent.jobs.{step}.outputs.{name}")
        }
        [kind, name] => format!("{}.{name}", known(kind)?),
        _ => return None,
    };
    (meant != inner && meant.len() <= 200).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::{Expression, Malformed, Piece, pieces, whole};

    #[test]
    fn brackets_of_the_shell_are_left_alone() {
        let text = "if [[ -f x ]]; then a[0]=1; fi $[[--mood ${{ inputs.mood }}]] ${{outputs.o}}";
        assert_eq!(
            pieces(text).unwrap(),
            [
                Piece::Text("if [[ -f x ]]; then a[0]=1; fi ".into()),
                Piece::Optional(vec![
                    Piece::Text("--mood ".into()),
                    Piece::Expression(Expression::Input("mood".into()), 0),
                ]),
                Piece::Text(" ".into()),
                Piece::Expression(Expression::Output("o".into()), 1),
            ]
        );
        assert_eq!(pieces("a ${{inputs.x"), Err(Malformed::Unclosed(0)));
        assert_eq!(pieces("a $[[ x"), Err(Malformed::UnclosedOptional(0)));
        assert_eq!(
            pieces("a $[[ x $[[ y ]] ]]"),
            Err(Malformed::NestedOptional(1))
        );
    }

    #[test]
    fn every_form_of_a_binding() {
        let forms = [
            ("${{parent.inputs.x}}", Expression::ParentInput("x".into())),
            (
                "${{ parent.jobs.a.outputs.o }}",
                Expression::JobOutput("a".into(), "o".into()),
            ),
            (
                "${{jobs.a.outputs.o}}",
                Expression::JobOutput("a".into(), "o".into()),
            ),
            ("${{inputs.x}}", Expression::Input("x".into())),
            ("${{name}}", Expression::Name),
            ("${{a.b}}", Expression::Other("a.b".into())),
        ];
        for (text, expected) in forms {
            assert_eq!(whole(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(whole("x ${{name}}"), Ok(None));
    }
}
