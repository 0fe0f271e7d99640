"""Maven with failing tests and broken sources; traces with causes in the logs of a Java program."""

from __future__ import annotations

import random
from pathlib import Path

from lab.tests.tool_outputs.kit import Workshop, bash, write_files
from lab.tests.tool_outputs.words import actions, camel, nouns, sentence

TOOLS = {"mvn": "mvn --version", "java": "java --version"}
VERSIONS = {"compiler": "3.13.0", "resources": "3.3.1", "surefire": "2.22.3"}
REPOSITORY = "file:///usr/share/maven-repo"


def make(shop: Workshop) -> None:
    """Six runs of Maven, six logs."""
    for i in range(6):
        _add_log(shop, i)
    for i in range(6):
        _add_maven(shop, i)


def _pom(name: str) -> str:
    plugins = "".join(
        f"<plugin><artifactId>maven-{plugin}-plugin</artifactId><version>{version}</version></plugin>"
        for plugin, version in VERSIONS.items()
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>"
        f"<artifactId>{name}</artifactId><version>1.0</version><properties>"
        "<maven.compiler.release>17</maven.compiler.release>"
        "<maven.compiler.showWarnings>true</maven.compiler.showWarnings>"
        "<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>"
        "<dependencies><dependency><groupId>junit</groupId><artifactId>junit</artifactId>"
        "<version>4.13.2</version><scope>test</scope></dependency></dependencies>"
        f"<build><plugins>{plugins}</plugins></build></project>"
    )


def _settings(home: Path) -> str:
    unchecked = "<releases><checksumPolicy>ignore</checksumPolicy></releases>"
    where = f"<id>central</id><url>{REPOSITORY}</url>{unchecked}"
    return (
        f"<settings><localRepository>{home}</localRepository><profiles><profile><id>here</id>"
        f"<repositories><repository>{where}</repository></repositories><pluginRepositories>"
        f"<pluginRepository>{where}</pluginRepository></pluginRepositories></profile></profiles>"
        "<activeProfiles><activeProfile>here</activeProfile></activeProfiles></settings>"
    )


def _test_class(rng: random.Random, name: str, cases: list[str], odd: str = "") -> str:
    logs = "".join(
        f"  @Test public void {camel(case, False)}() "
        f'{{ System.out.println("{name}: {sentence(rng)}"); }}\n'
        for case in cases
    )
    return (
        "package shop;\nimport org.junit.Assert;\nimport org.junit.Test;\n"
        f"public class {name}Test {{\n{logs}{odd}}}\n"
    )


def _add_maven(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"maven {i}")
    names, noun = [camel(noun) for noun in nouns(rng, 12)], f"{camel(rng.choice(nouns(rng, 9)))}{i}"
    got, want = rng.sample(range(100, 999), 2)
    odd = (
        f"  @Test public void total{noun}() {{ Assert.assertEquals({want}, {got}); }}\n",
        f"  @Test public void read{noun}() "
        f'{{ throw new IllegalStateException("{noun} is closed"); }}\n',
    )[i % 2]
    files = {
        f"src/test/java/shop/{name}Test.java": _test_class(
            rng, name, actions(rng, 12), odd if name == names[3] else ""
        )
        for name in names
    }
    write_files(shop.root, {"settings.xml": _settings(shop.root / "m2")})
    folder = shop.project(f"maven{i}", {**files, "pom.xml": _pom(f"shop{i}")})
    text = shop.run(f"mvn -B -ntp -s {shop.root}/settings.xml test", folder)
    ends, summary = (
        (
            rf"^java\.lang\.AssertionError: expected:<{want}> but was:<{got}>",
            rf"total{noun}:\d+ expected",
        ),
        (
            rf"^java\.lang\.IllegalStateException: {noun} is closed",
            rf"read{noun}:\d+ .* {noun} is closed",
        ),
    )[i % 2]
    errors = [ends, rf"^\[ERROR\] +{names[3]}Test\.{summary}", r"^\[INFO\] BUILD FAILURE"]
    asks = (f"Which values differ in total{noun}?", f"Why does read{noun} fail?")[i % 2]
    shop.add(bash("mvn -B test"), asks, text, errors[:2], errors)


def _add_log(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"log {i}")
    noun, names = (
        f"{rng.choice(nouns(rng, 9))}_{i}",
        [camel(name, False) for name in actions(rng, 3)],
    )
    words = ", ".join(f'"{sentence(rng, 6)}"' for _ in range(20))
    cause = f"java.net.SocketTimeoutException: no answer from {noun}"
    code = f"""
import java.util.*;
public class Main {{
  static final String[] WORDS = {{{words}}};
  static int at = 0;
  static void log(String level, String text) {{
    System.out.println(String.format(
      "2026-11-26 0%d:%02d:%02d.%03d %-5s [pool-1-thread-%d] shop.Jobs - %s",
      at / 3600 % 9, at / 60 % 60, at++ % 60, at * 37 % 1000, level, at % 5, text));
  }}
  static void {names[0]}() throws Exception {{
    throw new java.net.SocketTimeoutException("no answer from {noun}");
  }}
  static void {names[1]}() {{
    try {{ {names[0]}(); }}
    catch (Exception e) {{ throw new IllegalStateException("job {800 + i} stopped", e); }}
  }}
  static void {names[2]}() {{ {names[1]}(); }}
  public static void main(String[] words) {{
    Random random = new Random({rng.randint(1, 9999)});
    for (int n = 0; n < {150 + 20 * i}; n++) {{
      String word = WORDS[random.nextInt(20)];
      log(random.nextInt(3) == 0 ? "DEBUG" : "INFO", word + " n=" + random.nextInt(9999));
      if (n == {rng.randint(30, 120)}) try {{ {names[2]}(); }} catch (RuntimeException e) {{
        log("ERROR", "a job failed");
        e.printStackTrace(System.out);
      }}
    }}
  }}
}}
"""
    folder = shop.project(f"log{i}", {"Main.java": code})
    text = shop.run("java Main.java", folder)
    said = [
        rf"^java\.lang\.IllegalStateException: job {800 + i} stopped",
        rf"^Caused by: {cause.replace('.', chr(92) + '.')}",
    ]
    errors = [*said, r" ERROR .* a job failed$"]
    asks = (
        f"Why did job {800 + i} stop?",
        f"Job {800 + i} stopped: in which method is the cause?",
        None,
    )[i % 3]
    gold = [*said, rf"at Main\.{names[0]}\("] if i % 3 == 1 else said
    shop.add(bash("tail -n 300 jobs.log"), asks, text, gold, errors)
