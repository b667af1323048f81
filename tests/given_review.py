"""A review in which nothing is blank. Not a test."""

from tieout.review.answers import Monitoring, Review

REVIEW = Review(
    purpose="Reads figures from statements",
    decision="Which statements an analyst reads twice; the analyst decides",
    prohibited_uses=("credit decisions", "advice to clients"),
    owner="Ana Owens",
    developer="Dev Patel",
    validator="Val Ito",
    monitoring=Monitoring(
        metric="share of 50 audited answers whose figures are all right",
        threshold="below 0.85",
        cadence="weekly",
        reviewer="Rita Chen",
        escalation="Ana Owens, within a day",
        rollback="the previous adapter, by its folder's name",
    ),
    incident_contact="the desk of Ana Owens, extension 12",
)
