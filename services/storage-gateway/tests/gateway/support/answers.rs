//! The answers of long calls: how far it is, then the result.

/// The last answer of a stream, after those about progress.
macro_rules! last {
    ($answers:expr, $module:ident) => {{
        let mut answers = $answers.await.unwrap().into_inner();
        loop {
            let answer = answers.message().await.unwrap().expect("no summary");
            if let Some($module::Message::Summary(summary)) = answer.message {
                assert!(answers.message().await.unwrap().is_none());
                break summary;
            }
        }
    }};
}

/// The last answer of a stream whose answers have a field for the progress, or why there is none.
macro_rules! result {
    ($answers:expr) => {
        async {
            let mut answers = $answers.await?.into_inner();
            loop {
                let answer = answers.message().await?.expect("no result");
                if answer.progress.is_none() {
                    assert!(answers.message().await?.is_none());
                    break Ok::<_, ::tonic::Status>(answer);
                }
            }
        }
        .await
    };
}

pub(crate) use {last, result};
