//! A plan as text and as a graph. Everything from outside is escaped.

use auria_core::StepPath;
use auria_core::plan::{Plan, PlannedInput, PlannedStep, Reuse, Template, TemplatePart};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Steps that `step` waits for, and why (the input, or none for `depends_on`).
fn edges(step: &PlannedStep) -> Vec<(&StepPath, Option<&str>)> {
    let data = step.inputs.iter().filter_map(|(name, input)| match input {
        PlannedInput::Step { step, .. } => Some((step, Some(name.as_str()))),
        _ => None,
    });
    data.chain(step.after.iter().map(|after| (after, None)))
        .collect()
}

/// A command as it was written.
pub fn command(template: &Template) -> String {
    fn part(text: &mut String, part_: &TemplatePart) {
        // Writing to a string cannot fail.
        let _ = match part_ {
            TemplatePart::Text(plain) => write!(text, "{plain}"),
            TemplatePart::Input(name) => write!(text, "${{{{inputs.{name}}}}}"),
            TemplatePart::Output(name) => write!(text, "${{{{outputs.{name}}}}}"),
            TemplatePart::Optional(parts) => {
                text.push_str("$[[");
                parts.iter().for_each(|inner| part(text, inner));
                write!(text, "]]")
            }
        };
    }
    let mut text = String::new();
    template.0.iter().for_each(|inner| part(&mut text, inner));
    text
}

fn input(input: &PlannedInput) -> String {
    match input {
        PlannedInput::Literal { value } => format!("{value:?}"),
        PlannedInput::Snapshot {
            digest, data_type, ..
        } => {
            format!("{} snapshot {}", data_type.as_str(), &digest.hex()[..12])
        }
        PlannedInput::External { uri, .. } => uri.clone(),
        PlannedInput::Step { step, output, .. } => format!("output {output} of {}", step.display()),
        PlannedInput::Absent => "no value".to_owned(),
        #[allow(unreachable_patterns, reason = "kinds of inputs may be added")]
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// For people.
pub fn text(plan: &Plan) -> String {
    let mut text = format!("{}: {} steps\n", plan.pipeline, plan.steps.len());
    for (name, value) in &plan.inputs {
        let _ = writeln!(text, "  input {name} = {value}");
    }
    for step in &plan.steps {
        let _ = writeln!(text, "\n{}", step.path.display());
        let _ = writeln!(
            text,
            "  runs     {}",
            command(&step.command).trim().replace('\n', "\n           ")
        );
        for (name, value) in &step.inputs {
            let _ = writeln!(text, "  input    {name} = {}", input(value));
        }
        for (name, output) in &step.outputs {
            let _ = writeln!(text, "  output   {name} ({})", output.data_type.as_str());
        }
        let after: BTreeSet<String> = edges(step)
            .into_iter()
            .map(|(path, _)| path.display())
            .collect();
        if !after.is_empty() {
            let _ = writeln!(
                text,
                "  waits    for {}",
                after.into_iter().collect::<Vec<_>>().join(", ")
            );
        }
        if step.reuse == Reuse::NotDeterministic {
            let _ = writeln!(text, "  reuse    never: it says is_deterministic: false");
        }
    }
    for (name, output) in &plan.outputs {
        let _ = writeln!(
            text,
            "\noutput {name} = output {} of {}",
            output.output,
            output.step.display()
        );
    }
    text
}

/// In Mermaid's language.
pub fn mermaid(plan: &Plan) -> String {
    let id = |path: &StepPath| format!("s_{}", path.as_str().replace('.', "__"));
    let mut text = String::from("flowchart TD\n");
    for step in &plan.steps {
        let _ = writeln!(text, "    {}[\"{}\"]", id(&step.path), step.path.display());
    }
    for step in &plan.steps {
        for (from, why) in edges(step) {
            let _ = match why {
                Some(why) => writeln!(text, "    {} -- {why} --> {}", id(from), id(&step.path)),
                None => writeln!(text, "    {} -.-> {}", id(from), id(&step.path)),
            };
        }
    }
    text
}

/// In Graphviz' language. Names of steps and inputs are identifiers, so nothing
/// needs an escape but the pipeline's own name.
pub fn dot(plan: &Plan) -> String {
    let mut text = format!("digraph {:?} {{\n    node [shape=box];\n", plan.pipeline);
    for step in &plan.steps {
        let _ = writeln!(
            text,
            "    \"{}\" [label=\"{}\"];",
            step.path,
            step.path.display()
        );
    }
    for step in &plan.steps {
        for (from, why) in edges(step) {
            let _ = match why {
                Some(why) => writeln!(
                    text,
                    "    \"{from}\" -> \"{}\" [label=\"{why}\"];",
                    step.path
                ),
                None => writeln!(text, "    \"{from}\" -> \"{}\" [style=dashed];", step.path),
            };
        }
    }
    text.push_str("}\n");
    text
}

/// As a picture.
pub fn svg(plan: &Plan) -> String {
    use layout::backends::svg::SVGWriter;
    use layout::core::base::Orientation;
    use layout::core::geometry::Point;
    use layout::core::style::StyleAttr;
    use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
    use layout::topo::layout::VisualGraph;

    let mut graph = VisualGraph::new(Orientation::TopToBottom);
    let mut handles = std::collections::HashMap::new();
    for step in &plan.steps {
        let name = step.path.display();
        // Nine units a letter at the size that StyleAttr::simple writes.
        let size = Point::new(
            f64::from(u32::try_from(name.chars().count()).unwrap_or(64)) * 9.0 + 30.0,
            40.0,
        );
        let element = Element::create(
            ShapeKind::new_box(&name),
            StyleAttr::simple(),
            Orientation::TopToBottom,
            size,
        );
        handles.insert(&step.path, graph.add_node(element));
    }
    for step in &plan.steps {
        let froms: BTreeSet<&StepPath> = edges(step).into_iter().map(|(from, _)| from).collect();
        for from in froms {
            if let (Some(from), Some(to)) = (handles.get(from), handles.get(&step.path)) {
                graph.add_edge(Arrow::simple(""), *from, *to);
            }
        }
    }
    let mut svg = SVGWriter::new();
    graph.do_it(false, false, false, &mut svg);
    svg.finalize()
}
