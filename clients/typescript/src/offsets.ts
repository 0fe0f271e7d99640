/** Offsets of JavaScript's strings, which count UTF-16 code units, from offsets in code points. */

const PAIR = /[\ud800-\udbff][\udc00-\udfff]/;

/**
 * A function that converts offsets in a text from code points to UTF-16 code units.
 *
 * @throws RangeError - of the function: an offset that is no place in the text.
 */
export function utf16Offsets(text: string): (codePoints: number) => number {
  const starts = PAIR.test(text) ? characterStarts(text) : undefined;
  const last = starts ? starts.length - 1 : text.length;
  return (codePoints) => {
    if (!Number.isInteger(codePoints) || codePoints < 0 || codePoints > last) {
      throw new RangeError(`the offset ${codePoints} is no place in a text of ${last} code points`);
    }
    return starts ? starts[codePoints]! : codePoints;
  };
}

/** Where each character starts, and where the text ends. A lone surrogate is one character. */
function characterStarts(text: string): number[] {
  const starts = [0];
  for (const character of text) starts.push(starts.at(-1)! + character.length);
  return starts;
}
