//! The text library behind one C header (include/fettle_text.h): Hugging Face tokenizers, chat templates and
//! grammars. Each module exports the C functions of one kind; `border` holds what they share.

mod border;
mod budget;
mod generation_tags;
mod grammar;
mod python;
mod python_methods;
mod template;
mod tokenizer;
