"""Credentials of AWS that are in files: which are taken, and what is refused. The server says who has signed."""

import sys

import pytest

pytest.importorskip("obstore")
pytest.importorskip("boto3")
pytestmark = pytest.mark.parametrize("store_server", ["s3"], indirect=True)

CREDENTIALS = """
[default]
aws_access_key_id = of-default
aws_secret_access_key = testing

[team]
aws_access_key_id = of-team
aws_secret_access_key = testing
"""
CONFIG = """
[profile team]
region = eu-west-1

[profile robot]
role_arn = arn:aws:iam::123456789012:role/robot
source_profile = team
region = us-west-2
"""


@pytest.fixture
def files(bucket, monkeypatch, tmp_path):
    """No credentials in the environment, and two files of profiles."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, text in [("AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS), ("AWS_CONFIG_FILE", CONFIG)]:
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def put_and_get(open_cache, bucket):
    with open_cache("one", remote=bucket) as cache:
        assert cache.get("jit_f-1") is None
        cache.put("jit_f-1", b"value", 1.0)
    return cache.process_counts()


@pytest.mark.parametrize(
    ("profile", "key", "region"),
    [("", "of-default", "us-east-1"), ("team", "of-team", "eu-west-1"), ("robot", "ASIA", "us-west-2")],
)
def test_the_profile_in_files_signs_requests_and_says_where(
    open_cache, bucket, proxy, files, monkeypatch, profile, key, region
):
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    counts = put_and_get(open_cache, bucket)
    assert (counts.published, counts.remote_faults) == (1, 0)
    assert {(signer[: len(key)], where) for signer, where in proxy.signed_by} == {(key, region)}


def test_credentials_in_the_environment_come_before_those_in_files(open_cache, bucket, proxy, files, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert put_and_get(open_cache, bucket).published == 1
    assert {signer for signer, _ in proxy.signed_by} == {"of-environment"}


NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def names_endpoint(files, monkeypatch, proxy, tmp_path):
    """Write into a profile, and a section of services, which endpoint it has; no variable names one."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")

    def write(profile, services=""):
        text = f"[profile team]\nregion = eu-west-1\n{profile}\n[services here]\n{services}\n"
        (tmp_path / "AWS_CONFIG_FILE").write_text(text.replace("SERVER", f"http://127.0.0.1:{proxy.port}"))
        monkeypatch.setenv("AWS_PROFILE", "team")

    return write


@pytest.mark.parametrize(
    ("profile", "services"),
    [
        ("endpoint_url = SERVER", ""),
        ("services = here", "s3 =\n  endpoint_url = SERVER"),
        (f"services = here\nendpoint_url = {NOWHERE}", "s3 =\n  endpoint_url = SERVER"),
        ("services = here\nendpoint_url = SERVER", f"sts =\n  endpoint_url = {NOWHERE}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["files", "environment"])
def test_the_endpoint_of_a_profile_is_used_wherever_the_credentials_are(
    open_cache, bucket, proxy, names_endpoint, monkeypatch, where, profile, services
):
    names_endpoint(profile, services)
    if where == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    counts = put_and_get(open_cache, bucket)
    assert (counts.published, counts.remote_faults) == (1, 0)
    assert proxy.signed_by == {("of-team" if where == "files" else "of-environment", "eu-west-1")}


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_an_endpoint_in_the_environment_comes_before_that_of_a_profile(
    open_cache, bucket, proxy, names_endpoint, monkeypatch, variable
):
    names_endpoint(f"endpoint_url = {NOWHERE}")
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    assert put_and_get(open_cache, bucket).published == 1


def test_a_region_in_the_environment_comes_before_that_of_a_profile(
    open_cache, bucket, proxy, names_endpoint, monkeypatch
):
    names_endpoint("endpoint_url = SERVER")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert put_and_get(open_cache, bucket).published == 1
    assert proxy.signed_by == {("of-team", "us-west-2")}


@pytest.mark.parametrize("line", ["services = gone\nendpoint_url = SERVER", "endpoint_url = no address"])
def test_an_endpoint_that_makes_no_sense_is_refused_before_anything_starts(open_cache, bucket, names_endpoint, line):
    names_endpoint(line)
    with pytest.raises(ValueError, match=r"remote='s3://.*' cannot be used: .*(gone|no address)"):
        open_cache("one", remote=bucket)


def test_a_profile_that_is_not_there_is_refused_before_anything_starts(open_cache, bucket, files, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(ValueError, match=r"remote='s3://.*' cannot be used: .*profile \(none\)"):
        open_cache("one", remote=bucket)


def test_files_without_credentials_are_a_fault_that_is_told_of_and_fail_nothing(
    open_cache, bucket, proxy, files, tmp_path, logged_warnings
):
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text("")
    counts = put_and_get(open_cache, bucket)
    assert (counts.puts, counts.published, proxy.requests) == (1, 0, [])
    assert "get_credentials" in "".join(logged_warnings)
    logged_warnings.clear()


def test_without_boto3_the_fault_says_what_reads_profiles(
    open_cache, bucket, proxy, files, monkeypatch, logged_warnings
):
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setitem(sys.modules, "boto3", None)  # as Python has it where a module is not installed
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{proxy.port}")  # of a machine that has no role
    proxy.behaviour = "refuse"
    assert put_and_get(open_cache, bucket).published == 0
    assert "AWS_PROFILE, are read if boto3 is installed" in "".join(logged_warnings)
    logged_warnings.clear()
