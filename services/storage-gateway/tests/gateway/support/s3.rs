//! An S3 server in this process, over a directory: buckets are its folders.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use std::path::Path;
use tokio::net::TcpListener;
use url::form_urlencoded::byte_serialize;

pub const ACCESS_KEY: &str = "exampleaccess";
pub const SECRET_KEY: &str = "examplesecret";

/// Serves the directory until the test ends; yields `http://host:port`.
pub async fn serve(root: &Path) -> String {
    let mut builder = S3ServiceBuilder::new(Server(FileSystem::new(root).unwrap()));
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    format!("http://{address}")
}

/// s3s-fs, but an empty delimiter is none, and names are encoded in a listing on demand, as S3 has it: the restic program
/// asks so for a whole tree.
struct Server(FileSystem);

macro_rules! same {
    ($($operation:ident: $input:ident -> $output:ident,)*) => {
        #[async_trait::async_trait]
        impl S3 for Server {
            $(async fn $operation(
                &self,
                request: S3Request<$input>,
            ) -> S3Result<S3Response<$output>> {
                self.0.$operation(request).await
            })*

            async fn list_objects_v2(
                &self,
                request: S3Request<ListObjectsV2Input>,
            ) -> S3Result<S3Response<ListObjectsV2Output>> {
                let request = request.map_input(|mut input| {
                    input.delimiter = input.delimiter.filter(|delimiter| !delimiter.is_empty());
                    input
                });
                let encoded = request.input.encoding_type.is_some();
                let mut answer = self.0.list_objects_v2(request).await?;
                for object in answer.output.contents.iter_mut().flatten().filter(|_| encoded) {
                    let key = object.key.take().unwrap_or_default();
                    object.key = Some(byte_serialize(key.as_bytes()).collect());
                }
                Ok(answer)
            }
        }
    };
}

same! {
    get_bucket_location: GetBucketLocationInput -> GetBucketLocationOutput,
    head_bucket: HeadBucketInput -> HeadBucketOutput,
    head_object: HeadObjectInput -> HeadObjectOutput,
    get_object: GetObjectInput -> GetObjectOutput,
    put_object: PutObjectInput -> PutObjectOutput,
    delete_object: DeleteObjectInput -> DeleteObjectOutput,
    delete_objects: DeleteObjectsInput -> DeleteObjectsOutput,
}
