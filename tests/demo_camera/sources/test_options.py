"""Options are refused when they are made; a rate holds on a steady clock; names keep no secret."""

import pytest

from demo_camera.sources import Backoff, Region, SourceOptions
from demo_camera.sources.names import address_name, printable
from demo_camera.sources.reading import Reading
from edge_stscq.errors import EdgeError


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("0,0,640,480", (0, 0, 640, 480)),
        ("25%,0,50%,100%", (160, 0, 480, 480)),
        (" 10 , 20, 30,40 ", (10, 20, 40, 60)),
        ("600,400,9999,50%", (600, 400, 640, 480)),
        ("33.3%,0,33.3%,1", (213, 0, 426, 1)),
    ],
)
def test_a_region_is_pixels_or_shares(text: str, box: tuple[int, int, int, int]) -> None:
    region = Region.parse(text)
    assert region.box(640, 480) == box
    assert Region.parse(str(region)).box(640, 480) == box


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "1e9,0,1,1", "0,0,inf,1", "0x1,0,1,1"]
)
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(EdgeError, match="is no region; give x,y,w,h in pixels or percent"):
        Region.parse(text)


@pytest.mark.parametrize(("text", "why"), [("0,0,0,5", "is empty"), ("0,0,101%,5", "leaves the picture")])
def test_a_region_of_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(EdgeError, match=why):
        Region.parse(text)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rotate": 45}, "no quarter turn; give 0, 90, 180 or 270"),
        ({"max_rate": 0}, "is no rate"),
        ({"max_rate": float("nan")}, "is no rate"),
        ({"timeout": 0}, "is no time-out"),
        ({"timeout": 1e9}, "is no time-out"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], why: str) -> None:
    with pytest.raises(EdgeError, match=why):
        SourceOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"first": 0}, {"first": 5, "most": 1}, {"tries": 0}, {"most": float("inf")}])
def test_waits_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(EdgeError, match="are none; give"):
        Backoff(**options)  # type: ignore[arg-type]


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    backoff = Backoff(0.5, 30)
    assert [backoff.wait(failed, 1) for failed in (0, 1, 2, 5, 6, 10**6)] == [0.5, 1, 2, 16, 30, 30]
    assert backoff.wait(3, 0) == backoff.wait(3, 1) / 2


@pytest.mark.parametrize(("rate", "given"), [(5, 30), (7, 30), (10, 10), (12.5, 25), (1, 60)])
def test_a_rate_holds_on_average(rate: float, given: float) -> None:
    reading = Reading(SourceOptions(max_rate=rate))
    admitted = [at / given for at in range(round(given * 20)) if reading.admits(at / given)]
    assert len(admitted) == pytest.approx(20 * rate, abs=1)
    assert reading.counters.dropped == round(given * 20) - len(admitted)


def test_after_a_pause_a_rate_lets_no_burst_through() -> None:
    reading = Reading(SourceOptions(max_rate=1))
    assert [reading.admits(at) for at in (0, 0.5, 100, 100.1, 100.2, 101)] == [True, False, True, False, False, True]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://10.0.0.7/main", "rtsp://10.0.0.7/main"),
        ("rtsp://me:s3cret@10.0.0.7:554/main", "rtsp://me:***@10.0.0.7:554/main"),
        ("rtsp://me:s3cret@x@host/a", "rtsp://me:***@host/a"),
        ("RTSP://me:s3cret@Host/a", "rtsp://me:***@Host/a"),
        ("http://me@host/a", "http://me@host/a"),
        ("http://h/v.cgi?user=me&pwd=s3cret#s3cret", "http://h/v.cgi?user=***&pwd=***"),
        ("http://h/v.cgi?s3cret", "http://h/v.cgi?***"),
        ("https://[::1]:8443/a", "https://[::1]:8443/a"),
    ],
)
def test_a_name_keeps_no_secret(address: str, name: str) -> None:
    assert address_name(address) == name


@pytest.mark.parametrize("address", ["rtsp://", "rtsp://me:s3cret@", "http://h:port/", "http://h/\n", "http://a b/"])
def test_a_damaged_address_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(EdgeError, match="is damaged; give") as refused:
        address_name(address)
    assert "s3cret" not in str(refused.value)


def test_another_protocol_is_refused_by_name() -> None:
    with pytest.raises(EdgeError, match=r"^rtmp:// is not read; give rtsp://, rtsps://, http:// or https://$"):
        address_name("rtmp://me:s3cret@host/a")


def test_printable_is_one_line_of_text() -> None:
    assert printable("a\n\x1b[1mb\udcffü") == "a??[1mb?ü"
