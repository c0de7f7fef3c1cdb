//! Puts values into a command: local paths of data, the text of literals. As in
//! Azure ML the text is put in as it stands, so that quoting is the author's.

use auria_core::plan::{Template, TemplatePart};
use std::collections::BTreeMap;

/// A binding that has no value where one is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// An input without a value, outside of an optional part.
    #[error("`${{{{inputs.{0}}}}}` has no value; put it into an optional part, `$[[ … ]]`")]
    NoInput(String),
    /// An output that the step does not have.
    #[error("`${{{{outputs.{0}}}}}` is no output of this step")]
    NoOutput(String),
}

/// What bindings stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    /// By input; absent ones are not in it.
    pub(crate) inputs: BTreeMap<String, String>,
    /// By output.
    pub(crate) outputs: BTreeMap<String, String>,
}

impl Values {
    /// The text of `template`; an error where a binding outside of optional parts has
    /// no value.
    pub(crate) fn fill(&self, template: &Template) -> Result<String, TemplateError> {
        let mut text = String::new();
        self.add(&template.0, &mut text)?;
        Ok(text)
    }

    fn add(&self, parts: &[TemplatePart], text: &mut String) -> Result<(), TemplateError> {
        for part in parts {
            match part {
                TemplatePart::Text(piece) => text.push_str(piece),
                TemplatePart::Input(name) => {
                    text.push_str(
                        self.inputs
                            .get(name)
                            .ok_or_else(|| TemplateError::NoInput(name.clone()))?,
                    );
                }
                TemplatePart::Output(name) => {
                    text.push_str(
                        self.outputs
                            .get(name)
                            .ok_or_else(|| TemplateError::NoOutput(name.clone()))?,
                    );
                }
                TemplatePart::Optional(parts) => {
                    if self.has_all(parts) {
                        self.add(parts, text)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn has_all(&self, parts: &[TemplatePart]) -> bool {
        parts.iter().all(|part| match part {
            TemplatePart::Input(name) => self.inputs.contains_key(name),
            TemplatePart::Text(_) | TemplatePart::Output(_) | TemplatePart::Optional(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{TemplateError, Values};
    use auria_core::plan::{Template, TemplatePart as P};

    #[test]
    fn optional_parts_go_with_their_inputs() {
        let text = |t: &str| P::Text(t.to_owned());
        let template = Template(vec![
            text("run "),
            P::Input("a".into()),
            P::Optional(vec![text(" --mood "), P::Input("mood".into())]),
            text(" > "),
            P::Output("out".into()),
        ]);
        let mut values = Values::default();
        assert_eq!(
            values.fill(&template),
            Err(TemplateError::NoInput("a".into()))
        );
        values.inputs.insert("a".into(), "[[x]]".into());
        values.outputs.insert("out".into(), "/w/outputs/out".into());
        assert_eq!(
            values.fill(&template).unwrap(),
            "run [[x]] > /w/outputs/out"
        );
        values.inputs.insert("mood".into(), "joy".into());
        assert_eq!(
            values.fill(&template).unwrap(),
            "run [[x]] --mood joy > /w/outputs/out"
        );
    }
}
