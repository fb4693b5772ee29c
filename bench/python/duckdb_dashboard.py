"""The dashboard's figures, asked of DuckDB over raw rows: one for each message, as many as are asked for.

Prints how long each question took, in milliseconds, as JSON: the median of 11, after two that are not
counted. The rows are in memory, and in order of their time.
"""

import json
import statistics
import sys
import time

import duckdb

MESSAGES = int(sys.argv[1])
COUNTRIES = int(sys.argv[2])

db = duckdb.connect()
# The shares are those of the events that are counted beside it: most messages go to the first countries
# and with the first provider, 94 of 100 arrive, three of ten have no price from their provider.
db.execute(
    f"""
    CREATE TABLE messages AS
    SELECT
        n AS id,
        TIMESTAMP '2025-01-01' + to_milliseconds(n * 31536000000 // {MESSAGES}) AS accepted,
        'C' || (hash(n, 1) % {COUNTRIES} * (hash(n, 2) % {COUNTRIES}) // {COUNTRIES})::VARCHAR AS country,
        ['main', 'main', 'main', 'main', 'main', 'second', 'second', 'second', 'third', 'third']
            [(hash(n, 3) % 10 + 1)::INT] AS provider,
        'sms' AS channel,
        CASE
            WHEN hash(n, 11) % 100 < 94 THEN 'delivered'
            WHEN hash(n, 11) % 100 < 97 THEN 'undelivered'
            WHEN hash(n, 11) % 100 < 98 THEN 'failed'
            ELSE 'sent'
        END AS status,
        CASE WHEN hash(n, 10) % 10 < 7 THEN 7900::BIGINT END AS price,
        50000::BIGINT AS estimate,
        hash(n, 12) % 100 < 75 AS verified,
        (20 + hash(n, 4) % 200)::INT AS queue_ms,
        (800 + hash(n, 7) % 6000)::INT AS delivery_ms
    FROM range({MESSAGES}) AS numbers(n)
    """
)

WHERE = "WHERE accepted >= $1::TIMESTAMP AND accepted < $2::TIMESTAMP"
COST = "sum(coalesce(price, estimate))"
QUESTIONS = [
    f"""SELECT count(*), count(*) FILTER (status = 'delivered'), count(*) FILTER (status = 'failed'), {COST},
        count(*) FILTER (verified) FROM messages {WHERE}""",
    f"SELECT country, count(*), {COST} AS cost FROM messages {WHERE} GROUP BY country ORDER BY cost DESC LIMIT 10",
    f"SELECT status, count(*) FROM messages {WHERE} GROUP BY status",
    f"""SELECT date_trunc('day', accepted) AS day, count(*), count(*) FILTER (status = 'delivered')
        FROM messages {WHERE} GROUP BY day ORDER BY day""",
    f"""SELECT provider, count(*), count(*) FILTER (status = 'delivered'), {COST}, count(*) FILTER (verified),
        approx_quantile(queue_ms, [0.5, 0.95, 0.99]), approx_quantile(delivery_ms, [0.5, 0.95, 0.99])
        FROM messages {WHERE} GROUP BY provider""",
]


def median(questions, start, end):
    times = []
    for turn in range(13):
        begun = time.perf_counter()
        answers = [db.execute(question, [start, end]).fetchall() for question in questions]
        if turn >= 2:
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times), answers


year, answers = median(QUESTIONS, "2025-01-01", "2026-01-01")
assert answers[0][0][0] == MESSAGES, answers[0]
seed, _ = median(QUESTIONS[:4], "2025-01-01", "2026-01-01")
odd, _ = median(QUESTIONS, "2024-12-22 12:00:00", "2025-12-22 12:00:00")
print(
    json.dumps(
        {
            "dashboard of a calendar year": year,
            "the same without providers and latency": seed,
            "dashboard of 365 days from noon to noon": odd,
        }
    )
)
