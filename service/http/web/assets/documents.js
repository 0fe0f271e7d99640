// Documents on their way in: pasted, dropped, chosen or loaded as the example.

const PAGE = /^\s*(?:<!doctype html|<html[\s>])/i;
const PACKED = { "%PDF": "a PDF", "PK\u0003\u0004": "a packed file such as DOCX" };

export class Documents {
  /** `changed` is called whenever the list has changed, `refused` with a reason. */
  constructor(list, changed, refused) {
    Object.assign(this, { list, changed, refused, all: [] });
  }

  add(id, text) {
    if (!text.trim()) return;
    this.all.push({ id: this.unused(id), text, ...(PAGE.test(text) ? { format: "html" } : {}) });
    this.show();
  }

  replace(documents) {
    this.all = documents;
    this.show();
  }

  async addFiles(files) {
    for (const file of files) {
      const bytes = new Uint8Array(await file.arrayBuffer());
      const packed = PACKED[String.fromCharCode(...bytes.slice(0, 4))];
      try {
        if (packed) throw new Error(`${file.name} is ${packed}. The page reads text, Markdown and HTML; the command line reads it: tamis compress "${file.name}" -q "…"`);
        this.add(file.name, decode(bytes, file.name));
      } catch (error) {
        this.refused(error.message);
      }
    }
  }

  unused(id) {
    const taken = new Set(this.all.map((document) => document.id));
    let name = id, n = 2;
    while (taken.has(name)) name = `${id} (${n++})`;
    return name;
  }

  show() {
    this.list.replaceChildren(...this.all.map((one, index) => {
      const item = document.createElement("li");
      const name = document.createElement("span");
      const remove = document.createElement("button");
      name.className = "name";
      name.textContent = one.id;
      remove.type = "button";
      remove.textContent = "×";
      remove.ariaLabel = `Remove ${one.id}`;
      remove.onclick = () => this.replace(this.all.filter((_, i) => i !== index));
      item.append(name, `${one.text.length.toLocaleString()} characters${one.format ? ", HTML" : ""}`, remove);
      return item;
    }));
    this.changed();
  }
}

function decode(bytes, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Error(`${name} is not UTF-8 text and was left out; save it as UTF-8, or take the command line: tamis compress --encoding`);
  }
}
