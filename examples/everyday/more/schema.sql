-- Library lending, schema of March 2024
CREATE TABLE members (
    id          bigint PRIMARY KEY,
    email       text NOT NULL UNIQUE,
    joined_on   date NOT NULL DEFAULT current_date,
    status      text NOT NULL CHECK (status IN ('active', 'suspended', 'left'))
);

CREATE TABLE copies (
    barcode     char(13) PRIMARY KEY,
    title_id    bigint NOT NULL REFERENCES titles (id) ON DELETE RESTRICT,
    shelf       text,
    is_lendable boolean NOT NULL DEFAULT true
);

CREATE TABLE loans (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    member_id   bigint NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    barcode     char(13) NOT NULL REFERENCES copies (barcode),
    lent_on     date NOT NULL DEFAULT current_date,
    due_on      date NOT NULL DEFAULT current_date + 28,
    returned_on date,
    renewals    smallint NOT NULL DEFAULT 0 CHECK (renewals <= 3)
);

-- a copy is out with one member at most
CREATE UNIQUE INDEX one_open_loan ON loans (barcode) WHERE returned_on IS NULL;

CREATE VIEW overdue AS
    SELECT m.email, l.barcode, current_date - l.due_on AS days
    FROM loans l JOIN members m ON m.id = l.member_id
    WHERE l.returned_on IS NULL AND l.due_on < current_date;
