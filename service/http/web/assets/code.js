// The same request as code for curl, Python and LangChain.

const text = (value) => JSON.stringify(value, null, 2);
const indented = (value) => text(value).replaceAll("\n", "\n    ");

export function curl(origin, body, needsKey) {
  const data = text(body).replaceAll("'", "'\\''");
  const key = needsKey ? " \\\n  -H \"Authorization: Bearer $TAMIS_API_KEY\"" : "";
  return `curl -s ${origin}/v1/compress -H 'Content-Type: application/json'${key} \\\n  -d '${data}'\n`;
}

export function python(origin, body, needsKey) {
  const key = needsKey ? ', api_key=os.environ["TAMIS_API_KEY"]' : "";
  return `${needsKey ? "import os\n\n" : ""}from tamis.client import Client

documents = ${text(body.documents)}
with Client("${origin}"${key}) as tamis:
    short = tamis.compress(
        ${text(body.question)}, documents, max_tokens=${body.max_tokens}, model=${text(body.model)}
    )
print(short.text)
`;
}

export function langchain(origin, body, needsKey) {
  const key = needsKey ? ', api_key=os.environ["TAMIS_API_KEY"]' : "";
  const documents = body.documents.map((document) => ({ page_content: document.text, id: document.id }));
  return `${needsKey ? "import os\n\n" : ""}from langchain_core.documents import Document
from tamis.langchain import TamisCompressor

documents = [Document(**fields) for fields in ${indented(documents)}]
compressor = TamisCompressor(base_url="${origin}", max_tokens=${body.max_tokens}, method="${body.model}"${key})
for document in compressor.compress_documents(documents, ${text(body.question)}):
    print(document.page_content)
`;
}
