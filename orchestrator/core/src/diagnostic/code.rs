//! Every code that a diagnostic can have: the one list that the check, the schema
//! of `validate --output json` and `docs/errors.md` are made from. A code is a
//! contract: scripts look for it.

use serde::{Serialize, Serializer};
use std::fmt;

/// Whether a diagnostic holds of a text that is not read to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Whatever stands behind, it is wrong.
    Alone,
    /// What stands behind may make it right.
    OfTheWhole,
}

macro_rules! codes {
    ($($group:literal { $($variant:ident $name:literal $holds:ident $meaning:literal)* })*) => {
        /// What kind of thing a diagnostic is about: `unknown-input`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $meaning] $variant,)*)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// As people and scripts write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$variant => $name,)*)*
                }
            }

            /// What it says of a file, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $($(Self::$variant => $meaning,)*)*
                }
            }

            /// What it is about, for a heading.
            #[must_use]
            pub const fn group(self) -> &'static str {
                match self {
                    $($(Self::$variant => $group,)*)*
                }
            }

            /// Whether it holds of a text that could not be read to its end.
            pub(crate) fn holds_alone(self) -> bool {
                let holds = match self {
                    $($(Self::$variant => Holds::$holds,)*)*
                };
                holds == Holds::Alone
            }
        }
    };
}

codes! {
    "Text" {
        FileNotFound "file-not-found" Alone "A file or folder that is named does not exist, or cannot be read."
        TooLarge "too-large" OfTheWhole "A file has more bytes, or a pipeline more steps, than anyone writes."
        Utf16 "utf-16" Alone "The file is text in UTF-16; pipeline files are UTF-8."
        NotUtf8 "not-utf-8" Alone "The file is text in another encoding than UTF-8."
        NotText "not-text" Alone "The file is no text: an image, an archive, a program."
        EmptyFile "empty-file" Alone "The file holds no document."
        TooManyErrors "too-many-errors" Alone "There are more errors than are listed."
        UnsuitableFile "unsuitable-file" Alone "A local file or folder cannot become a snapshot."
    }
    "YAML" {
        Tab "tab" Alone "A tab stands where YAML takes spaces alone."
        Indentation "indentation" Alone "A line is indented further, or less, than what it belongs to."
        UnclosedQuote "unclosed-quote" Alone "A quoted text is not closed, or goes on behind its closing quote."
        UnclosedBracket "unclosed-bracket" Alone "A `{` or `[` is not closed, or is closed by the other's bracket."
        MissingColon "missing-colon" Alone "A key stands without its `:`."
        StrayColon "stray-colon" Alone "A `: ` stands inside a value without quotes."
        BadEscape "bad-escape" Alone "A text in double quotes has a `\\` that YAML does not know."
        BadCharacter "bad-character" Alone "A value begins with a character that YAML keeps for itself."
        UnknownAnchor "unknown-anchor" Alone "An alias (`*name`) names an anchor (`&name`) that does not stand before it."
        RecursiveAlias "recursive-alias" Alone "An alias stands inside the value that its anchor names."
        AliasBomb "alias-bomb" Alone "Aliases repeat values so often that a small file becomes a huge one."
        TooDeep "too-deep" Alone "Values, components or steps are nested deeper than is read."
        DuplicateKey "duplicate-key" Alone "A mapping has the same key twice; the first one is checked."
        BadKey "bad-key" Alone "A key is a list or a mapping."
        BadMerge "bad-merge" Alone "`<<` is given something else than mappings."
        Yaml "yaml" Alone "The text breaks another rule of YAML."
    }
    "Documents" {
        MissingName "missing-name" OfTheWhole "A file with several pipelines has one without a `name`."
        DuplicateName "duplicate-name" Alone "Two pipelines of a file have the same `name`."
        SeveralDocuments "several-documents" Alone "A component's file holds more than one document."
    }
    "Keys and values" {
        UnknownKey "unknown-key" Alone "A key does not exist at this place."
        MissingKey "missing-key" OfTheWhole "A key that is needed here is absent."
        ExclusiveKeys "exclusive-keys" Alone "Two keys exclude each other."
        WrongType "wrong-type" Alone "A value is of another type than its key or its input takes."
        UnknownType "unknown-type" Alone "A `type` does not exist."
        UnknownValue "unknown-value" Alone "A value is none of the words that its key takes."
        BadName "bad-name" Alone "A name has characters that it cannot have."
        BadDuration "bad-duration" Alone "A time is not written as one, such as `90`, `30m`, `12h`, `7d`."
        BadAmount "bad-amount" Alone "An amount of memory or CPUs is not written as one, such as `512MiB` or `500m`."
        BadVersion "bad-version" Alone "A CUDA version is not written as one, such as `\"12.6\"`."
        EmptyCommand "empty-command" Alone "A `command` has no words."
        EmptyJobs "empty-jobs" OfTheWhole "`jobs` holds no step."
        NotYet "not-yet" Alone "Something of the format that is not built yet."
        AzureOnly "azure-only" Alone "Something that needs a service of Azure."
        Ignored "ignored" Alone "A key that changes nothing here."
    }
    "Inputs and outputs" {
        UnknownInput "unknown-input" OfTheWhole "An input is named that the pipeline, the step or the component does not have."
        MissingInput "missing-input" OfTheWhole "An input that needs a value has none."
        TypeMismatch "type-mismatch" OfTheWhole "An input is given data for a parameter, a parameter for data, or a file for a folder."
        LocalPlace "local-place" OfTheWhole "A step on a cluster is given a place of this machine to work in."
        OutOfRange "out-of-range" Alone "A number lies outside of `min` and `max`."
        NotInEnum "not-in-enum" Alone "A value is none of those in `enum`."
        EmptyRange "empty-range" Alone "`min` is greater than `max`: no value fits."
        OptionalInput "optional-input" OfTheWhole "A command uses an input that may have no value."
        UnknownOutput "unknown-output" OfTheWhole "An output is named that the pipeline, the step or the component does not have."
        UnboundOutput "unbound-output" OfTheWhole "No step makes an output of the pipeline."
        DuplicateOutput "duplicate-output" Alone "Two steps make the same output of the pipeline."
    }
    "Bindings and order" {
        BadBinding "bad-binding" Alone "An expression cannot be bound here."
        BadExpression "bad-expression" Alone "An expression cannot be used here."
        LiteralBinding "literal-binding" Alone "A value looks like a binding, and is passed as text."
        UnclosedExpression "unclosed-expression" Alone "A `${{` lacks its `}}`, or a `$[[` its `]]`."
        UnknownStep "unknown-step" OfTheWhole "A step is named that does not exist."
        OutOfScope "out-of-scope" OfTheWhole "A step is named that lies inside or outside of the pipeline that the binding stands in."
        Cycle "cycle" Alone "Steps need each other, or a step itself."
        ConnectedStep "connected-step" Alone "`on_init` or `on_finalize` names a step that has to do with others."
    }
    "Components, environments, data" {
        ComponentType "component-type" Alone "A component is of another type than the place that names it."
        RecursiveComponent "recursive-component" Alone "A component includes itself."
        UnknownEnvironment "unknown-environment" Alone "An environment is named that does not exist."
        MissingImage "missing-image" OfTheWhole "A step names no image, and its target needs one."
        ImageUnavailable "image-unavailable" OfTheWhole "An image cannot be pulled or built."
        EnvironmentIgnored "environment-ignored" OfTheWhole "The target uses no images: a step's environment changes nothing."
        UnknownAsset "unknown-asset" OfTheWhole "Registered data or a model is named that does not exist."
        BadPlace "bad-place" Alone "An output cannot be copied to the place that its `path` names."
        UnknownObject "unknown-object" OfTheWhole "An object is named that does not exist."
    }
    "--set" {
        SetSyntax "set-syntax" Alone "An argument of `--set` is not PATH=VALUE."
        SetPath "set-path" OfTheWhole "The PATH of a `--set` leads nowhere."
        SetType "set-type" Alone "The VALUE of a `--set` is of another type than what stands there."
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// So that a test compares with what people write.
impl PartialEq<&str> for Code {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::Code;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_is_one_word_with_a_meaning() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let good =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(code.as_str().bytes().all(good), "{code}");
            assert!(code.meaning().ends_with('.'), "{code}");
        }
    }
}
